//! `v2v image resize`: makes a raw or qcow2 image larger, or a raw one smaller.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use image::formats::{Format, NewSize};

use super::humane::{parse_size, size};
use super::{Outcome, print};

/// Change the virtual size of a raw or qcow2 image
#[derive(Debug, ClapArgs)]
#[command(allow_negative_numbers = true)]
pub(super) struct Args {
    /// Format of FILE instead of detecting it
    #[arg(short = 'f', long = "format", value_name = "FMT")]
    format: Option<Format>,
    /// Allow a smaller size (raw); what lies behind is lost
    #[arg(long)]
    shrink: bool,
    /// Print nothing but errors
    #[arg(short = 'q', long = "quiet")]
    quiet: bool,
    /// Image
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// New size such as 20G, or +SIZE more, or -SIZE less
    #[arg(value_name = "[+-]SIZE", value_parser = new_size, allow_hyphen_values = true)]
    size: NewSize,
}

pub(super) fn run(args: &Args) -> Outcome {
    let (old, new) = image::formats::resize(&args.file, args.format, args.size, args.shrink)?;
    if !args.quiet {
        print(&format!(
            "Image resized from {} to {} ({new} bytes).\n",
            size(old),
            size(new)
        ))?;
    }
    Ok(0)
}

fn new_size(text: &str) -> Result<NewSize> {
    let with = |rest| parse_size(rest).with_context(|| format!("the size {text:?}"));
    Ok(match text.as_bytes().first() {
        Some(b'+') => NewSize::More(with(&text[1..])?),
        Some(b'-') => NewSize::Less(with(&text[1..])?),
        _ => NewSize::Exactly(with(text)?),
    })
}
