//! `v2v image create`: a new image that holds nothing, or a linked clone of another.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use image::formats::{Format, OutputFormat, WriteOptions, create_with};

use super::convert::{beside, parse_pairs};
use super::humane::{parse_size, size};
use super::open::Reach;
use super::output::NewFile;
use super::{Outcome, print};

/// Sectors are 512 bytes; a size is rounded up to whole ones.
const SECTOR: u64 = 512;

/// Make a new image that holds nothing
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Format of the image
    #[arg(short = 'f', value_name = "FMT", default_value = "raw")]
    format: OutputFormat,
    /// Options of the format
    #[arg(short = 'o', value_name = "KEY=VALUE,...")]
    options: Vec<String>,
    /// Backing file, which is read where the image holds nothing
    #[arg(short = 'b', value_name = "FILE")]
    backing: Option<String>,
    /// Format of the backing file
    #[arg(short = 'F', value_name = "FMT", requires = "backing")]
    backing_format: Option<Format>,
    /// Print nothing but errors
    #[arg(short = 'q', long = "quiet")]
    quiet: bool,
    #[command(flatten)]
    reach: Reach,
    /// Image to make; an existing file is refused
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Size such as 20G; the backing file's when left out
    #[arg(value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut pairs = parse_pairs(&args.options)?;
    let backing_size = backing_size(args, &mut pairs)?;
    let virtual_size = match args.size.or(backing_size) {
        Some(size) => size
            .checked_next_multiple_of(SECTOR)
            .context("the size is too large")?,
        None => return Err(anyhow::anyhow!("expected a size: v2v image create FILE SIZE").into()),
    };
    let options = WriteOptions::parse(args.format, false, &pairs)?;
    let new = NewFile::new(&args.file)?;
    create_with(new.path(), virtual_size, &options)?.finish()?;
    new.place()?;
    if !args.quiet {
        print(&format!(
            "Created {}: {}, {} ({virtual_size} bytes).\n",
            args.file.display(),
            args.format,
            size(virtual_size)
        ))?;
    }
    Ok(0)
}

/// Notes the backing file in the options, and returns its size. It is opened, so that a name without a file behind
/// it is refused now.
fn backing_size(args: &Args, pairs: &mut Vec<(String, String)>) -> Result<Option<u64>> {
    if let Some(name) = &args.backing {
        let Some(format) = args.backing_format else {
            bail!("-b {name}: the format of the backing file must be said; hint: -F qcow2");
        };
        pairs.retain(|(key, _)| key != "backing_file" && key != "backing_fmt");
        pairs.push(("backing_file".to_owned(), name.clone()));
        pairs.push(("backing_fmt".to_owned(), format.to_string()));
    }
    let value = |wanted: &str| pairs.iter().find(|(key, _)| key == wanted);
    let Some((_, name)) = value("backing_file") else {
        return Ok(None);
    };
    let format = value("backing_fmt")
        .map(|(_, format)| format.parse::<Format>())
        .transpose()
        .context("backing_fmt")?;
    let path = beside(&args.file, name);
    let chain = args.reach.open(path.as_os_str(), format, None)?;
    Ok(Some(chain.source.virtual_size()))
}
