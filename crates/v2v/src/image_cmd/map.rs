//! `v2v image map`: what lies where.

use std::fmt::Write;

use clap::Args as ClapArgs;
use image::formats::{Chain, Format};
use image::{ExtentKind, Stored};
use types::CancelToken;

use super::humane::parse_size;
use super::open::{Location, Reach, shown};
use super::{Outcome, OutputStyle, print};

/// Text that is collected before it is printed.
const FLUSH_AT: usize = 64 << 10;

/// Show which parts of an image hold data, and where
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Format of FILE instead of detecting it
    #[arg(short = 'f', long = "format", value_name = "FMT")]
    format: Option<Format>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: OutputStyle,
    /// First byte of the disk to show
    #[arg(short = 's', long = "start-offset", value_name = "OFFSET", value_parser = parse_size)]
    start: Option<u64>,
    /// Bytes to show
    #[arg(short = 'l', long = "max-length", value_name = "LEN", value_parser = parse_size)]
    length: Option<u64>,
    #[command(flatten)]
    reach: Reach,
    /// Image, or the URI of an NBD export
    #[arg(value_name = "FILE")]
    file: Location,
}

pub(super) fn run(args: &Args, cancel: &CancelToken) -> Outcome {
    let mut chain = args.reach.open(&args.file, args.format, None)?;
    if let Some(first) = chain.labels.first_mut() {
        *first = shown(&args.file);
    }
    let size = chain.source.virtual_size();
    let start = args.start.unwrap_or(0).min(size);
    let end = start
        .saturating_add(args.length.unwrap_or(u64::MAX))
        .min(size);
    let mut text = String::new();
    let mut first = true;
    match args.output {
        OutputStyle::Json => text.push('['),
        OutputStyle::Human => {
            text.push_str("Offset          Length          Mapped to       File\n")
        }
    }
    for stored in image::map(chain.source.as_ref(), start..end, cancel) {
        let stored = stored?;
        match args.output {
            OutputStyle::Json => {
                text.push_str(if first { "" } else { ",\n" });
                json(&mut text, &stored);
            }
            OutputStyle::Human => human(&mut text, &stored, &chain),
        }
        first = false;
        if text.len() >= FLUSH_AT {
            print(&text)?;
            text.clear();
        }
    }
    if args.output == OutputStyle::Json {
        text.push_str("]\n");
    }
    print(&text)?;
    Ok(0)
}

/// Data only, as qemu-img. What is not stored as it is has no place to be mapped to.
fn human(text: &mut String, stored: &Stored, chain: &Chain) {
    let extent = stored.extent;
    if extent.kind != ExtentKind::Data {
        return;
    }
    let place = match (stored.host, stored.compressed) {
        (Some(host), _) => hex(host),
        (None, Some(true)) => "compressed".to_owned(),
        (None, _) => "-".to_owned(),
    };
    let file = stored
        .depth
        .and_then(|depth| chain.labels.get(usize::try_from(depth).ok()?))
        .map_or("-", String::as_str);
    let (offset, len) = (hex(extent.offset), hex(extent.len));
    let _ = writeln!(text, "{offset:<15} {len:<15} {place:<15} {file}");
}

/// Hexadecimal with its prefix, but a bare `0`: as C prints `%#x`.
fn hex(n: u64) -> String {
    match n {
        0 => "0".to_owned(),
        n => format!("{n:#x}"),
    }
}

/// qemu-img's keys; depth, compressed and offset where they are known.
fn json(text: &mut String, stored: &Stored) {
    let extent = stored.extent;
    let _ = write!(
        text,
        "{{ \"start\": {}, \"length\": {}",
        extent.offset, extent.len
    );
    if let Some(depth) = stored.depth {
        let _ = write!(text, ", \"depth\": {depth}");
    }
    let _ = write!(
        text,
        ", \"present\": {}, \"zero\": {}, \"data\": {}",
        extent.kind != ExtentKind::Unallocated,
        extent.kind.reads_zero(),
        extent.kind == ExtentKind::Data
    );
    if let Some(compressed) = stored.compressed {
        let _ = write!(text, ", \"compressed\": {compressed}");
    }
    if let Some(host) = stored.host {
        let _ = write!(text, ", \"offset\": {host}");
    }
    text.push('}');
}
