//! `v2v image compare`: do two images hold the same? Exit status as qemu-img compare: 0 the same, 1 different,
//! 2 an image could not be opened, 3 or more an error while comparing.

use clap::Args as ClapArgs;
use image::formats::Format;
use image::{CompareOptions, Comparison, Difference};
use serde_json::json;
use types::CancelToken;

use super::open::{Location, Reach};
use super::progress::Progress;
use super::{Failure, Outcome, OutputStyle, print, print_json, say};

const DIFFERENT: u8 = 1;
const NOT_OPENED: u8 = 2;
const NOT_READ: u8 = 4;
/// qemu-img names the sector in which a difference is.
const SECTOR: u64 = 512;

/// Compare what two images hold
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit status: 0 the same, 1 different, 2 an image could not be opened,\n\
                  4 an image could not be read."
)]
pub(super) struct Args {
    /// Format of A instead of detecting it
    #[arg(short = 'f', value_name = "FMT")]
    format_a: Option<Format>,
    /// Format of B instead of detecting it
    #[arg(short = 'F', value_name = "FMT")]
    format_b: Option<Format>,
    /// Compare the sizes, and what is allocated, too
    #[arg(short = 's', long = "strict")]
    strict: bool,
    /// Threads
    #[arg(
        short = 'm',
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    threads: usize,
    /// Show progress
    #[arg(short = 'p', long = "progress")]
    progress: bool,
    /// Print nothing but errors
    #[arg(short = 'q', long = "quiet")]
    quiet: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: OutputStyle,
    #[command(flatten)]
    reach: Reach,
    /// Image, or the URI of an NBD export
    #[arg(value_name = "A")]
    a: Location,
    /// The other
    #[arg(value_name = "B")]
    b: Location,
}

pub(super) fn run(args: &Args, cancel: &CancelToken) -> Outcome {
    let open = |file, format| {
        args.reach
            .open(file, format, None)
            .map_err(|e| Failure::new(NOT_OPENED, e))
    };
    let (a, b) = (open(&args.a, args.format_a)?, open(&args.b, args.format_b)?);
    let options = CompareOptions {
        strict: args.strict,
        threads: args.threads,
    };
    let progress = Progress::new(args.progress);
    let result = image::compare(
        a.source.as_ref(),
        b.source.as_ref(),
        &options,
        cancel,
        &|at| progress.at(at),
    );
    progress.end(result.is_ok());
    let found = result.map_err(|e| Failure::new(NOT_READ, e))?;
    match args.output {
        OutputStyle::Json => print_json(&as_json(found))?,
        OutputStyle::Human if args.quiet => {}
        OutputStyle::Human => {
            if found.sizes_differ && !args.strict {
                say("Warning: Image size mismatch!");
            }
            print(&sentence(found))?;
        }
    }
    Ok(if found.difference.is_some() {
        DIFFERENT
    } else {
        0
    })
}

fn sentence(found: Comparison) -> String {
    match found.difference {
        None => "Images are identical.\n".to_owned(),
        Some(Difference::Size) => "Strict mode: Image size mismatch!\n".to_owned(),
        Some(Difference::Status(offset)) => {
            format!("Strict mode: Offset {offset} block status mismatch!\n")
        }
        Some(Difference::Content(offset)) => {
            let sector = offset - offset % SECTOR;
            format!("Content mismatch at offset {sector}!\n")
        }
    }
}

/// qemu-img compare has no JSON; the keys are ours. The offset is that of the first byte.
fn as_json(found: Comparison) -> serde_json::Value {
    let (what, offset) = match found.difference {
        None => (None, None),
        Some(Difference::Size) => (Some("size"), None),
        Some(Difference::Status(offset)) => (Some("status"), Some(offset)),
        Some(Difference::Content(offset)) => (Some("content"), Some(offset)),
    };
    json!({
        "identical": found.difference.is_none(),
        "sizes-differ": found.sizes_differ,
        "difference": what,
        "offset": offset,
    })
}
