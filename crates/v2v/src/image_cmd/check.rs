//! `v2v image check`: are metadata and data in order? Exit status as qemu-img check: 0 clean, 1 could not check,
//! 2 corruption, 3 leaks only, 63 not supported.

use std::fmt::Write;

use anyhow::anyhow;
use clap::Args as ClapArgs;
use image::formats::Format;
use image::{FindingKind, MetadataCheck};
use serde_json::{Map, Value, json};
use types::CancelToken;

use super::open::{Location, Reach, shown};
use super::progress::Progress;
use super::{Failure, Outcome, OutputStyle, print, print_json};

const CORRUPT: u8 = 2;
const LEAKS: u8 = 3;
const NOT_SUPPORTED: u8 = 63;

/// Look for damage in an image and its parents
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit status: 0 clean, 1 could not check, 2 corrupt, 3 leaked clusters only,\n\
                  63 not supported. Nothing is ever repaired."
)]
pub(super) struct Args {
    /// Format of FILE instead of detecting it
    #[arg(short = 'f', long = "format", value_name = "FMT")]
    format: Option<Format>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: OutputStyle,
    /// Refused: nothing is repaired here (leaks, all)
    #[arg(short = 'r', long = "repair", value_name = "WHAT")]
    repair: Option<String>,
    /// Read all data too, as is done for formats without metadata to check
    #[arg(long)]
    data: bool,
    /// Show progress
    #[arg(short = 'p', long = "progress")]
    progress: bool,
    #[command(flatten)]
    reach: Reach,
    /// Image, or the URI of an NBD export
    #[arg(value_name = "FILE")]
    file: Location,
}

/// What was found, and how it was looked for.
#[derive(Default)]
struct Report {
    /// Findings with the image that they are of: its label, and the message.
    findings: Vec<(String, FindingKind, String)>,
    corruptions: u64,
    leaks: u64,
    metadata: bool,
    /// Bytes that were read, if they were.
    read: Option<u64>,
}

pub(super) fn run(args: &Args, cancel: &CancelToken) -> Outcome {
    if let Some(what) = &args.repair {
        return Err(Failure::new(
            NOT_SUPPORTED,
            anyhow!(
                "-r {what}: images are not repaired; hint: qemu-img check -r, or convert to a new image"
            ),
        ));
    }
    let chain = args.reach.open(&args.file, args.format, None)?;
    let mut report = Report::default();
    for (index, (label, layer)) in chain.layers().into_iter().enumerate() {
        let found = layer.check_metadata(cancel)?;
        report.metadata |= index == 0 && found.is_some();
        if let Some(found) = found {
            report.add(&label, found);
        }
    }
    if args.data || !report.metadata {
        let progress = Progress::new(args.progress);
        let result = image::check_data(chain.source.as_ref(), cancel, &|at| progress.at(at));
        progress.end(result.is_ok());
        let data = result?;
        report.read = Some(data.read_bytes);
        report.corruptions += data.errors.len() as u64;
        for error in data.errors {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            let message = format!("{error}{}", cause.unwrap_or_default());
            report
                .findings
                .push((String::new(), FindingKind::Corruption, message));
        }
    }
    let (name, size) = (shown(&args.file), chain.source.virtual_size());
    match args.output {
        OutputStyle::Json => {
            let clusters = chain
                .source
                .info()
                .cluster_size
                .filter(|&cluster| cluster > 0)
                .map(|cluster| size.div_ceil(cluster));
            print_json(&report.json(&name, chain.source.format(), clusters))?;
        }
        OutputStyle::Human => print(&report.human())?,
    }
    Ok(match (report.corruptions, report.leaks) {
        (0, 0) => 0,
        (0, _) => LEAKS,
        _ => CORRUPT,
    })
}

impl Report {
    fn add(&mut self, label: &str, found: MetadataCheck) {
        self.corruptions += found.corruptions;
        self.leaks += found.leaks;
        for finding in found.findings {
            self.findings
                .push((label.to_owned(), finding.kind, finding.message));
        }
    }

    fn human(&self) -> String {
        let mut text = String::new();
        for (label, kind, message) in &self.findings {
            let kind = word(*kind);
            let _ = match label.as_str() {
                "" => writeln!(text, "{kind}: {message}"),
                label => writeln!(text, "{kind}: {label}: {message}"),
            };
        }
        if self.corruptions == 0 && self.leaks == 0 {
            text.push_str("No errors were found on the image.\n");
        }
        if self.corruptions > 0 {
            let _ = writeln!(
                text,
                "\n{} errors were found on the image.\n\
                 Data may be corrupted, or further writes to the image may corrupt it.",
                self.corruptions
            );
        }
        if self.leaks > 0 {
            let _ = writeln!(
                text,
                "\n{} leaked clusters were found on the image.\n\
                 This means waste of disk space, but no harm to data.",
                self.leaks
            );
        }
        if let Some(read) = self.read {
            let _ = writeln!(text, "Read {read} bytes of data.");
        }
        text
    }

    fn json(&self, name: &str, format: &str, clusters: Option<u64>) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| {
            object.insert(key.to_owned(), value);
        };
        put("filename", json!(name));
        put("format", json!(format));
        put("check-errors", json!(0));
        // qemu-img leaves out what is zero.
        if self.corruptions > 0 {
            put("corruptions", json!(self.corruptions));
        }
        if self.leaks > 0 {
            put("leaks", json!(self.leaks));
        }
        if let Some(clusters) = clusters {
            put("total-clusters", json!(clusters));
        }
        // Ours.
        put("metadata-checked", json!(self.metadata));
        if let Some(read) = self.read {
            put("data-bytes-read", json!(read));
        }
        let findings: Vec<_> = self
            .findings
            .iter()
            .map(|(label, kind, message)| {
                json!({"kind": word(*kind), "image": label, "message": message})
            })
            .collect();
        put("findings", findings.into());
        Value::Object(object)
    }
}

fn word(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Leak => "leak",
        _ => "error",
    }
}
