//! `cargo xtask matrix [--jobs N] [--build | --unconverted | --converted] [NAME…]`: builds the guests of the matrix, proves
//! that each boots on VMware's hardware and not on virtio as it is, converts it, boots the result on virtio-blk and on
//! virtio-scsi; a table, and target/matrix/matrix.json.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testkit::guest::matrix::{self, BUSES, Figures, MATRIX, MatrixGuest, SAMPLE, SHORT_SAMPLE};

use crate::{dist, lanes, packages, run};

/// Issue 5: the whole conversion, and of that the appliance's work.
const CONVERSION_LIMIT: Duration = Duration::from_secs(60);
const APPLIANCE_LIMIT: Duration = Duration::from_secs(30);

/// What was found of one guest.
#[derive(Debug)]
struct Row {
    guest: MatrixGuest,
    old: Option<Duration>,
    figures: Option<Figures>,
    boots: [Option<Duration>; 2],
    errors: Vec<String>,
}

#[derive(Debug)]
struct Options {
    guests: Vec<MatrixGuest>,
    jobs: usize,
    part: Part,
}

/// What is done of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// `--build`: the guests are made.
    Build,
    /// `--unconverted`: and booted as they are.
    Unconverted,
    /// `--converted`: and converted and booted.
    Converted,
    /// Both.
    All,
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = options(args)?;
    packages::ensure(packages::Group::Test)?;
    if options.part == Part::Build {
        return build_only(&options);
    }
    // As the tests do: cargo builds nothing twice when they alternate.
    run::build_tests()?;
    let image = dist::appliance_around(run::built("applianced")?)?;
    let out = testkit::target_dir().join("matrix");
    fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    let mut rows = lanes::each(options.jobs, &options.guests, |guest| {
        let row = prove(guest, &out, &image, options.part);
        say(&line(&row));
        for error in &row.errors {
            say(&format!("    {}", error.replace('\n', "\n    ")));
        }
        Ok(row)
    })?;
    rows.sort_by_key(|row| MATRIX.iter().position(|guest| *guest == row.guest));
    report(&rows, &out)
}

fn options(args: &[String]) -> Result<Options> {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let mut options = Options {
        guests: Vec::new(),
        jobs: (cores / 2).max(1),
        part: Part::All,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--build" => options.part = Part::Build,
            "--unconverted" => options.part = Part::Unconverted,
            "--converted" => options.part = Part::Converted,
            "--jobs" => {
                let number = args.next().and_then(|text| text.parse().ok());
                options.jobs = number
                    .filter(|jobs| *jobs > 0)
                    .context("--jobs: expected a number")?;
            }
            name => match matrix::by_name(name) {
                Some(guest) => options.guests.push(*guest),
                None => {
                    let names: Vec<&str> = MATRIX.iter().map(|guest| guest.name).collect();
                    bail!(
                        "unknown guest {name:?}, expected one of {}",
                        names.join(" ")
                    );
                }
            },
        }
    }
    if options.guests.is_empty() {
        options.guests = MATRIX.to_vec();
    }
    Ok(options)
}

/// The guests that tests/matrix_guests_boot.rs proves.
pub(crate) fn for_tests(all: bool) -> impl Iterator<Item = MatrixGuest> {
    let names = if all { SAMPLE } else { SHORT_SAMPLE };
    names
        .iter()
        .filter_map(|name| matrix::by_name(name).copied())
}

fn build_only(options: &Options) -> Result<()> {
    let built = lanes::each(options.jobs, &options.guests, |guest| {
        let result = build(guest);
        if let Err(err) = &result {
            say(&format!("{}: {err:#}", guest.name));
        }
        Ok(result.is_ok())
    })?;
    let failed = built.iter().filter(|is_built| !**is_built).count();
    if failed > 0 {
        bail!("{failed} guests could not be built");
    }
    Ok(())
}

/// Builds it unless it is in the cache.
pub(crate) fn build(guest: &MatrixGuest) -> Result<()> {
    let begin = Instant::now();
    let built = matrix::build(guest)?;
    say(&format!(
        "{} ({:.1} s)",
        built.disks[0].display(),
        begin.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Everything of one guest; a failure ends what depends on it.
fn prove(guest: &MatrixGuest, out: &Path, appliance: &Path, part: Part) -> Row {
    let mut row = Row {
        guest: *guest,
        old: None,
        figures: None,
        boots: [None; 2],
        errors: Vec::new(),
    };
    if let Err(err) = try_prove(&mut row, out, appliance, part) {
        row.errors.push(format!("{err:#}"));
    }
    row
}

fn try_prove(row: &mut Row, out: &Path, appliance: &Path, part: Part) -> Result<()> {
    let built = matrix::build(&row.guest)?;
    if part != Part::Converted {
        match matrix::unconverted(&built) {
            Ok(proof) => row.old = Some(proof.old_login),
            Err(err) => row.errors.push(format!("{err:#}")),
        }
    }
    if part == Part::Unconverted {
        return Ok(());
    }
    let out = out.join(row.guest.name);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    let figures = matrix::convert(&built, &out, Some(appliance)).context("converting")?;
    row.figures = Some(figures);
    for (time, limit, what) in [
        (figures.conversion, CONVERSION_LIMIT, "conversion"),
        (figures.appliance, APPLIANCE_LIMIT, "appliance"),
    ] {
        if time > limit {
            row.errors
                .push(format!("{what}: {time:.1?}, at most {limit:?} allowed"));
        }
    }
    for (time, bus) in row.boots.iter_mut().zip(BUSES) {
        match matrix::boot(&built, &out, bus) {
            Ok(login) => *time = Some(login),
            Err(err) => row.errors.push(format!("converted on {bus:?}: {err:#}")),
        }
    }
    Ok(())
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
}

fn line(row: &Row) -> String {
    let values: Vec<String> = row
        .guest
        .values()
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    format!(
        "{:18} {:72} {:>6} {:>9} {:>10} {:>10} {:>11}  {}",
        row.guest.name,
        values.join(" "),
        seconds(row.old),
        seconds(row.figures.map(|figures| figures.appliance)),
        seconds(row.figures.map(|figures| figures.conversion)),
        seconds(row.boots[0]),
        seconds(row.boots[1]),
        if row.errors.is_empty() {
            "ok"
        } else {
            "FAILED"
        }
    )
}

fn as_json(row: &Row) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let values: serde_json::Map<String, Value> = (row.guest.values().into_iter())
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect();
    json!({
        "guest": row.guest.name,
        "values": values,
        "old_hardware_s": seconds(row.old),
        "appliance_s": seconds(row.figures.map(|figures| figures.appliance)),
        "conversion_s": seconds(row.figures.map(|figures| figures.conversion)),
        "virtio_blk_s": seconds(row.boots[0]),
        "virtio_scsi_s": seconds(row.boots[1]),
        "errors": row.errors,
    })
}

#[expect(clippy::print_stdout, reason = "the result")]
fn report(rows: &[Row], out: &Path) -> Result<()> {
    println!(
        "\n{:18} {:72} {:>6} {:>9} {:>10} {:>10} {:>11}  result",
        "guest", "values", "old s", "appl. s", "convert s", "blk s", "scsi s"
    );
    for row in rows {
        println!("{}", line(row));
    }
    let path = out.join("matrix.json");
    let rows_json: Vec<Value> = rows.iter().map(as_json).collect();
    fs::write(&path, serde_json::to_string_pretty(&rows_json)?)
        .with_context(|| format!("writing {}", path.display()))?;
    println!("\n{}", path.display());
    let failed = rows.iter().filter(|row| !row.errors.is_empty()).count();
    if failed > 0 {
        bail!("{failed} of {} guests failed", rows.len());
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
fn say(text: &str) {
    eprintln!("{text}");
}
