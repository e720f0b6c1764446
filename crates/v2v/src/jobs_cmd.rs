//! `v2v jobs`: shows and steers the jobs of a running server.

use std::ffi::OsString;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use server::web::humane::{self, clean};
use server::{JobDetail, JobView};
use wire::admin::{ApproveJobRequest, Key, LogEntry};

use crate::admin::{Admin, Client, Common};
use crate::options;
use crate::table::{list, print, print_json, read, say, table};

/// Options of `v2v jobs`.
#[derive(Debug, Parser)]
#[command(
    name = "v2v jobs",
    about = "Jobs of a running `v2v serve`",
    max_term_width = 80
)]
pub(crate) struct JobsCli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List jobs, newest last
    List,
    /// Show one job with its machine, disks and changes
    Show {
        /// Number of the job
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Let a job begin, with its own options over the server's
    Approve {
        /// Number of the job
        #[arg(value_name = "ID")]
        id: u64,
        /// Key of an encrypted volume: ID:key:PASSPHRASE or ID:file:FILE; ID is a device, a UUID
        /// or all
        #[arg(long = "key", value_name = "SELECTOR")]
        keys: Vec<String>,
        /// Options as on v2v's command line: -- -on web1 -of qcow2
        #[arg(last = true, value_name = "OPTIONS")]
        options: Vec<String>,
    },
    /// Give a job up
    Cancel {
        /// Number of the job
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Start a failed or cancelled job again, over what it has received
    Retry {
        /// Number of the job
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Print the log of a job
    Logs {
        /// Number of the job
        #[arg(value_name = "ID")]
        id: u64,
        /// Go on until the job has ended
        #[arg(short = 'f', long)]
        follow: bool,
    },
}

/// Runs the command line that follows `v2v jobs`.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<()> {
    let cli = JobsCli::parse_from(std::iter::once("v2v jobs".into()).chain(args));
    // Wrong keys are found before anybody is asked.
    let approval = match &cli.command {
        Command::Approve { id, keys, options } => Some(approval(*id, keys, options)?),
        _ => None,
    };
    let admin = Client::connect(&cli.common.state)?;
    let json = cli.common.json;
    match cli.command {
        Command::List => jobs(&admin, json),
        Command::Show { id } => show(&admin, id, json),
        Command::Approve { id, .. } => {
            admin.approve(approval.unwrap_or_default())?;
            done(id, "approved", json)
        }
        Command::Cancel { id } => {
            admin.cancel(id)?;
            done(id, "cancelled", json)
        }
        Command::Retry { id } => {
            admin.retry(id)?;
            done(id, "started again", json)
        }
        Command::Logs { id, follow } => admin.logs(id, follow, &mut |line| log_line(&line, json)),
    }
}

fn done(id: u64, what: &str, json: bool) -> Result<()> {
    say(&format!("job {id} is {what}"));
    if json {
        print_json(&json!({ "id": id, "result": what }))?;
    }
    Ok(())
}

fn approval(id: u64, keys: &[String], options: &[String]) -> Result<ApproveJobRequest> {
    if options
        .iter()
        .any(|word| word.trim_start_matches('-').starts_with("key"))
    {
        bail!("--key goes before --: what is behind it is stored with the job");
    }
    let keys = keys
        .iter()
        .map(|selector| {
            let key = options::key(selector)?;
            Ok(Key {
                id: key.id,
                secret: key.secret,
            })
        })
        .collect::<Result<_>>()?;
    Ok(ApproveJobRequest {
        id,
        options: options.to_vec(),
        keys,
    })
}

fn jobs(admin: &dyn Admin, json: bool) -> Result<()> {
    let documents = admin.jobs()?;
    if json {
        return print_json(&list(&documents)?);
    }
    let rows = documents
        .iter()
        .map(|json| Ok(row(&read(json)?)))
        .collect::<Result<Vec<_>>>()?;
    let titles = [
        "ID", "NAME", "STATE", "DONE", "RATE", "LEFT", "AGENT", "TEXT",
    ];
    print(&table(&titles, &rows))?;
    Ok(())
}

fn row(job: &JobView) -> Vec<String> {
    let progress = &job.progress;
    let moving = !job.state.is_ended();
    let shown = |value: u64, text: fn(u64) -> String| match value {
        0 => "-".to_owned(),
        _ if !moving => "-".to_owned(),
        value => text(value),
    };
    vec![
        job.id.to_string(),
        job.name.clone(),
        job.state.word().to_owned(),
        humane::percent(progress.done_bytes, progress.total_bytes)
            .map_or_else(|| "-".to_owned(), |percent| format!("{percent} %")),
        shown(progress.rate_bytes, humane::rate),
        shown(progress.eta_seconds, humane::duration),
        if job.connected { "connected" } else { "away" }.to_owned(),
        job.text.clone(),
    ]
}

fn show(admin: &dyn Admin, id: u64, json: bool) -> Result<()> {
    let document = admin.job(id)?;
    if json {
        return print_json(&read::<Value>(&document)?);
    }
    print(&describe(&read(&document)?))?;
    Ok(())
}

/// A job for people.
fn describe(detail: &JobDetail) -> String {
    let job = &detail.job;
    let mut out = String::new();
    let mut pair = |label: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&format!("{label:<12} {}\n", clean(value)));
        }
    };
    pair("job", &job.id.to_string());
    pair("name", &job.name);
    pair("state", job.state.word());
    pair("text", &job.text);
    pair("machine", &job.machine);
    let connected = if job.connected { "connected" } else { "away" };
    pair("agent", &format!("{connected} {}", job.address));
    pair("begun", &humane::utc(job.created_unix_ms));
    if job.ended_unix_ms > 0 {
        pair("ended", &humane::utc(job.ended_unix_ms));
    }
    pair("options", &job.options.join(" "));
    for (label, value) in figures(job) {
        pair(label, &value);
    }
    for concern in &detail.concerns {
        pair("to look at", concern);
    }
    for line in detail.guest.iter().flat_map(|guest| guest.lines()) {
        pair("guest", line);
    }
    for file in &detail.placed {
        pair("placed", file);
    }
    for (label, value) in &detail.inventory {
        pair("machine", &format!("{label}: {value}"));
    }
    tables(detail, &mut out);
    out
}

fn figures(job: &JobView) -> Vec<(&'static str, String)> {
    let progress = &job.progress;
    let mut figures = Vec::new();
    if let Some(percent) = humane::percent(progress.done_bytes, progress.total_bytes) {
        let (done, total) = (
            humane::size(progress.done_bytes),
            humane::size(progress.total_bytes),
        );
        figures.push(("received", format!("{done} of {total} ({percent} %)")));
    }
    let more = [
        (
            "rate",
            progress.rate_bytes,
            humane::rate as fn(u64) -> String,
        ),
        ("left", progress.eta_seconds, humane::duration),
        ("on the wire", progress.wire_bytes, humane::size),
        ("zero", progress.zero_bytes, humane::size),
        ("same", progress.same_bytes, humane::size),
        ("unreadable", progress.bad_bytes, humane::size),
    ];
    let known = more.into_iter().filter(|(_, value, _)| *value > 0);
    figures.extend(known.map(|(label, value, text)| (label, text(value))));
    figures
}

fn tables(detail: &JobDetail, out: &mut String) {
    let disks: Vec<_> = detail
        .disks
        .iter()
        .map(|disk| {
            vec![
                disk.name.clone(),
                humane::size(disk.virtual_size),
                humane::size(disk.done_bytes),
                humane::size(disk.total_bytes),
                disk.bad.len().to_string(),
                disk.model.clone(),
                disk.health.clone(),
            ]
        })
        .collect();
    let titles = [
        "DISK",
        "SIZE",
        "RECEIVED",
        "NEEDED",
        "BAD RANGES",
        "MODEL",
        "HEALTH",
    ];
    section(out, &titles, &disks);
    let bad: Vec<_> = detail
        .disks
        .iter()
        .flat_map(|disk| disk.bad.iter().map(|range| (&disk.name, range)))
        .map(|(name, range)| {
            let len = range.end.saturating_sub(range.start);
            vec![name.clone(), range.start.to_string(), len.to_string()]
        })
        .collect();
    section(out, &["UNREADABLE", "FROM BYTE", "BYTES"], &bad);
    let nics: Vec<_> = detail
        .nics
        .iter()
        .map(|(name, mac, network)| vec![name.clone(), mac.clone(), network.clone()])
        .collect();
    section(out, &["NIC", "MAC", "NETWORK"], &nics);
    let changes: Vec<_> = detail
        .changes
        .iter()
        .map(|change| vec![change.step.clone(), change.path.clone(), change.why.clone()])
        .collect();
    section(out, &["CHANGE", "PATH", "WHY"], &changes);
    let proof: Vec<_> = detail
        .proof
        .iter()
        .map(|range| {
            vec![
                range.disk.to_string(),
                range.offset.to_string(),
                range.len.to_string(),
                range.root.clone(),
            ]
        })
        .collect();
    section(out, &["PROVED DISK", "OFFSET", "LENGTH", "BLAKE3"], &proof);
}

fn section(out: &mut String, titles: &[&str], rows: &[Vec<String>]) {
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&table(titles, rows));
    }
}

fn log_line(line: &LogEntry, json: bool) -> Result<bool> {
    let text = if json {
        json!({ "unix_ms": line.unix_ms, "level": line.level, "text": line.text }).to_string()
            + "\n"
    } else {
        format!(
            "{} {:<7} {}\n",
            humane::rfc3339(line.unix_ms),
            clean(&line.level),
            clean(&line.text)
        )
    };
    print(&text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn help_fits_eighty_columns() {
        crate::serve_cmd::assert_help_fits(JobsCli::command());
    }

    #[test]
    fn keys_go_apart_from_options() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let request = approval(3, &words(&["sda3:key:hunter2"]), &words(&["-on", "web1"])).unwrap();
        assert_eq!(request.options, ["-on", "web1"]);
        assert_eq!(
            (request.keys[0].id.as_str(), &request.keys[0].secret[..]),
            ("sda3", &b"hunter2"[..])
        );
        for options in [
            &["--key=all:key:x"][..],
            &["-key", "all:key:x"],
            &["--key", "all:key:x"],
        ] {
            let error = approval(3, &[], &words(options)).unwrap_err().to_string();
            assert!(
                error.contains("before --") && !error.contains(":x"),
                "{error}"
            );
        }
        let error = approval(3, &words(&["hunter2"]), &[])
            .unwrap_err()
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
