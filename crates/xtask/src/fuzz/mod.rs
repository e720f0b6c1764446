//! `cargo xtask fuzz [TARGET…] [--seconds N] [--jobs N]`: runs the fuzz targets of crates/fuzz.
//!
//! ```text
//! target/fuzz/build/              the programs, built once, with coverage counters
//! target/fuzz/corpus/TARGET/      seeds (`seed-*`) and what libFuzzer found worth keeping
//! target/fuzz/artifacts/TARGET/   inputs that failed; move each to crates/fuzz/findings/TARGET/ with the fix
//! target/fuzz/TARGET.log          what libFuzzer said
//! target/fuzz/summary.json        the table
//! ```
//!
//! Coverage comes from LLVM's pass by flags of the stable compiler, those that cargo-fuzz sets; so no nightly
//! compiler and no sanitizer is needed, of which safe Rust would have little use.

mod seeds;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::{lanes, run};

/// How long a target runs unless told otherwise, in seconds.
const DEFAULT_SECONDS: u64 = 600;
/// One input may take so long, in seconds. On a machine whose processors are shared, less gives false alarms.
const TIMEOUT_SECONDS: u32 = 10;
/// Memory of one program, in MiB.
const MEMORY_LIMIT_MIB: u32 = 2048;
/// Flags of LLVM's coverage pass. Under `cfg(fuzzing)` checksums of metadata hold by definition, or no mutation would
/// get past them.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What the command line says.
struct Options {
    targets: Vec<String>,
    seconds: u64,
    jobs: usize,
}

/// How a target fared.
#[derive(Debug)]
struct Outcome {
    target: String,
    seconds: f64,
    executions: u64,
    /// Edges of the program that were reached.
    coverage: u64,
    /// libFuzzer's count of edges and values.
    features: u64,
    findings: Vec<String>,
    /// The program failed without leaving an input.
    failed: bool,
}

/// Builds, seeds, runs, reports; an error when anything was found.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    let dir = testkit::target_dir().join("fuzz");
    let programs = build(&dir)?;
    for target in &options.targets {
        seeds::fill(target, &corpus(&dir, target)?).with_context(|| format!("seeding {target}"))?;
    }
    let mut outcomes = lanes::each(options.jobs, &options.targets, |target| {
        fuzz(&programs, &dir, target, options.seconds)
    })?;
    outcomes.sort_by(|a, b| a.target.cmp(&b.target));
    report(&dir, &outcomes)
}

/// The programs in crates/fuzz/src/bin.
fn all_targets() -> Result<Vec<String>> {
    let folder = testkit::repo().join("crates/fuzz/src/bin");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn parse(args: &[String]) -> Result<Options> {
    let known = all_targets()?;
    let mut options = Options {
        targets: Vec::new(),
        seconds: DEFAULT_SECONDS,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            let text = args
                .next()
                .with_context(|| format!("{arg} needs a number"))?;
            let number = text
                .parse()
                .with_context(|| format!("{arg}: expected a number, found {text}"))?;
            ensure!(number > 0, "{arg}: expected a number from 1");
            Ok(number)
        };
        match arg.as_str() {
            "--seconds" => options.seconds = number()?,
            "--jobs" => options.jobs = usize::try_from(number()?)?,
            name if known.iter().any(|target| target == name) => {
                options.targets.push(name.to_owned());
            }
            other => bail!(
                "unknown target {other}, expected --seconds N, --jobs N, or some of: {}",
                known.join(", ")
            ),
        }
    }
    if options.targets.is_empty() {
        options.targets = known;
    }
    Ok(options)
}

/// Builds all programs and returns their folder.
fn build(dir: &Path) -> Result<PathBuf> {
    let target_dir = dir.join("build");
    let triple = host_triple()?;
    // With `--target`, flags do not reach build scripts and macros.
    let mut command = run::cargo(&[
        "build",
        "--locked",
        "--release",
        "--package",
        "v2v-fuzz",
        "--features",
        "libfuzzer",
        "--bins",
        "--target",
        &triple,
    ]);
    command
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("RUSTFLAGS", COVERAGE)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true");
    run::run(&mut command)?;
    Ok(target_dir.join(triple).join("release"))
}

fn host_triple() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .context("starting rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    triple.map(str::to_owned).context("rustc -vV names no host")
}

fn corpus(dir: &Path, target: &str) -> Result<PathBuf> {
    let path = dir.join("corpus").join(target);
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}

/// Runs one target to its end or to its first finding.
#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
fn fuzz(programs: &Path, dir: &Path, target: &str, seconds: u64) -> Result<Outcome> {
    let artifacts = dir.join("artifacts").join(target);
    if artifacts.exists() {
        fs::remove_dir_all(&artifacts)
            .with_context(|| format!("removing {}", artifacts.display()))?;
    }
    fs::create_dir_all(&artifacts).with_context(|| format!("creating {}", artifacts.display()))?;
    let log_path = dir.join(format!("{target}.log"));
    let log =
        File::create(&log_path).with_context(|| format!("creating {}", log_path.display()))?;
    let mut command = Command::new("nice");
    command
        .args(["-n", "19"])
        .arg(programs.join(target))
        .arg(corpus(dir, target)?)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MIB}"))
        .arg(format!("-max_len={}", seeds::MAX_LEN))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .stdout(log.try_clone().context("sharing the log")?)
        .stderr(log);
    eprintln!("fuzzing {target} for {seconds} s");
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("starting {target}"))?;
    let elapsed = start.elapsed();
    let mut findings = Vec::new();
    for entry in fs::read_dir(&artifacts)? {
        let path = entry?.path();
        let slow = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("slow-unit-"));
        if !slow {
            findings.push(path.display().to_string());
        }
    }
    findings.sort();
    let text = fs::read(&log_path).with_context(|| format!("reading {}", log_path.display()))?;
    Ok(outcome(
        target,
        elapsed,
        &String::from_utf8_lossy(&text),
        findings,
        status.success(),
    ))
}

/// Reads libFuzzer's talk: `#1234 DONE cov: 56 ft: 78 corp: …` and `stat::number_of_executed_units: 1234`.
fn outcome(
    target: &str,
    elapsed: Duration,
    log: &str,
    findings: Vec<String>,
    success: bool,
) -> Outcome {
    let after = |line: &str, key: &str| {
        line.split_once(key)
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .and_then(|number| number.parse::<u64>().ok())
    };
    let last = log
        .lines()
        .rfind(|line| line.starts_with('#') && line.contains(" cov: "))
        .unwrap_or_default();
    let units = log
        .lines()
        .find_map(|line| after(line, "stat::number_of_executed_units:"));
    let counted = last
        .trim_start_matches('#')
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok());
    Outcome {
        target: target.to_owned(),
        seconds: elapsed.as_secs_f64(),
        executions: units.or(counted).unwrap_or(0),
        coverage: after(last, " cov: ").unwrap_or(0),
        features: after(last, " ft: ").unwrap_or(0),
        failed: !success && findings.is_empty(),
        findings,
    }
}

#[expect(clippy::print_stdout, reason = "the result")]
fn report(dir: &Path, outcomes: &[Outcome]) -> Result<()> {
    println!(
        "{:<18} {:>8} {:>12} {:>8} {:>8} {:>8}",
        "target", "seconds", "executions", "cov", "ft", "findings"
    );
    for outcome in outcomes {
        let found = if outcome.failed {
            "failed".to_owned()
        } else {
            outcome.findings.len().to_string()
        };
        println!(
            "{:<18} {:>8.1} {:>12} {:>8} {:>8} {:>8}",
            outcome.target,
            outcome.seconds,
            outcome.executions,
            outcome.coverage,
            outcome.features,
            found
        );
    }
    let summary: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            json!({
                "target": outcome.target,
                "seconds": outcome.seconds,
                "executions": outcome.executions,
                "coverage": outcome.coverage,
                "features": outcome.features,
                "findings": outcome.findings,
                "failed": outcome.failed,
            })
        })
        .collect();
    let path = dir.join("summary.json");
    let text = serde_json::to_string_pretty(&summary).context("writing the summary")?;
    fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    for finding in outcomes.iter().flat_map(|outcome| &outcome.findings) {
        println!("{finding}");
    }
    let bad: Vec<&str> = outcomes
        .iter()
        .filter(|outcome| outcome.failed || !outcome.findings.is_empty())
        .map(|outcome| outcome.target.as_str())
        .collect();
    ensure!(
        bad.is_empty(),
        "findings in {}; see {}",
        bad.join(", "),
        dir.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzer_s_talk_is_understood() {
        let log = "INFO: Seed: 1\n#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                   #4096\tDONE   cov: 120 ft: 340 corp: 20/1Kb lim: 4 exec/s: 800 rss: 40Mb\n\
                   stat::number_of_executed_units: 4097\n";
        let found = outcome("x", Duration::from_secs(5), log, Vec::new(), true);
        assert_eq!(
            (found.executions, found.coverage, found.features),
            (4097, 120, 340)
        );
        assert!(!found.failed);
        let crashed = outcome("x", Duration::ZERO, "boom", Vec::new(), false);
        assert!(crashed.failed);
    }

    #[test]
    fn options_are_checked() {
        let args = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let options = parse(&args(&["vmcx", "--seconds", "20", "--jobs", "1"])).unwrap();
        assert_eq!(
            (options.targets, options.seconds, options.jobs),
            (vec!["vmcx".to_owned()], 20, 1)
        );
        assert!(parse(&[]).unwrap().targets.len() > 10);
        for bad in [
            &["nothing"][..],
            &["--seconds"],
            &["--seconds", "0"],
            &["--jobs", "x"],
        ] {
            assert!(parse(&args(bad)).is_err(), "{bad:?}");
        }
    }
}
