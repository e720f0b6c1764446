//! `v2v image convert`: copies a disk image without touching what is in it.

use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use image::copy::{CopyOptions, copy};
use image::formats::{Format, OutputFormat, WriteOptions, create_with, is_uri, lock_exclusively};
use image::{BlockSource, copy_delta, in_place};
use types::CancelToken;

use super::humane::parse_size;
use super::open::{Location, Reach};
use super::output::NewFile;
use super::progress::Progress;
use super::{Failure, Outcome};

/// Copy an image into a new one of another format
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "DST gets its name when it is complete; what exists is never replaced, but for\n\
                        block devices and with -n, which are written in place, as raw."
)]
pub(super) struct Args {
    /// Format of SRC instead of detecting it
    #[arg(short = 'f', value_name = "FMT")]
    source_format: Option<Format>,
    /// Format of DST
    #[arg(short = 'O', value_name = "FMT", default_value = "qcow2")]
    output_format: OutputFormat,
    /// Compress
    #[arg(short = 'c')]
    compress: bool,
    /// Options of the format of DST
    #[arg(short = 'o', value_name = "KEY=VALUE,...")]
    options: Vec<String>,
    /// Snapshot of SRC to read: ID, NAME, snapshot.id=ID or snapshot.name=NAME
    #[arg(short = 'l', value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Threads
    #[arg(short = 'm', value_name = "N")]
    threads: Option<usize>,
    /// Show progress
    #[arg(short = 'p')]
    progress: bool,
    /// Write into DST as it is: it exists and is raw
    #[arg(short = 'n')]
    no_create: bool,
    /// Least run of zeroes that becomes a hole; 0 allocates all of DST
    #[arg(short = 'S', value_name = "SIZE", value_parser = parse_size)]
    sparse_size: Option<u64>,
    /// Backing file of DST, whose content SRC has where it does not differ
    #[arg(short = 'B', value_name = "FILE")]
    backing: Option<String>,
    /// Format of the backing file
    #[arg(short = 'F', value_name = "FMT", requires = "backing")]
    backing_format: Option<Format>,
    /// Accepted for qemu-img's sake: writes are always out of order
    #[arg(short = 'W', hide = true)]
    out_of_order: bool,
    /// Print nothing but errors
    #[arg(short = 'q')]
    quiet: bool,
    #[command(flatten)]
    reach: Reach,
    /// Image to read, or the URI of an NBD export
    #[arg(value_name = "SRC")]
    source: Location,
    /// Image to write
    #[arg(value_name = "DST")]
    output: PathBuf,
}

pub(super) fn run(args: &Args, cancel: &CancelToken) -> Outcome {
    convert(args, cancel).map_err(Failure::from)?;
    Ok(0)
}

fn convert(args: &Args, cancel: &CancelToken) -> Result<()> {
    if args.output.as_os_str() == "-" || is_uri(args.output.as_os_str()) {
        bail!(
            "{}: expected a file or block device to write",
            args.output.display()
        );
    }
    let mut pairs = parse_pairs(&args.options)?;
    if args.sparse_size == Some(0) && !pairs.iter().any(|(key, _)| key == "preallocation") {
        pairs.push(("preallocation".to_owned(), "falloc".to_owned()));
    }
    let in_place = args.no_create || is_device(&args.output);
    if in_place {
        refuse_with_in_place(args)?;
    }
    let backing = backing(args, &mut pairs)?;
    // Whatever is wrong with the target is said before the source is opened.
    let write = WriteOptions::parse(args.output_format, args.compress, &pairs)?;
    let snapshot = args.snapshot.as_deref().map(snapshot_name);
    let chain = args
        .reach
        .open(&args.source, args.source_format, snapshot)?;
    let job = Job {
        source: chain.source.as_ref(),
        options: CopyOptions {
            threads: match args.threads {
                Some(0) => bail!("-m 0: expected at least 1"),
                threads => threads.unwrap_or(0),
            },
            ..CopyOptions::default()
        },
        cancel,
        progress: Progress::new(args.progress && !args.quiet),
    };
    let result = if in_place {
        job.write_in_place(&args.output)
    } else {
        job.write_new(&args.output, &write, backing.as_deref())
    };
    job.progress.end(result.is_ok());
    result
}

/// A copy at work.
struct Job<'a> {
    source: &'a dyn BlockSource,
    options: CopyOptions,
    cancel: &'a CancelToken,
    progress: Progress,
}

impl Job<'_> {
    /// Writes a new image, which gets its name at the end.
    fn write_new(
        &self,
        output: &Path,
        write: &WriteOptions,
        backing: Option<&dyn BlockSource>,
    ) -> Result<()> {
        let progress = |at| self.progress.at(at);
        let new = NewFile::new(output)?;
        let sink = create_with(new.path(), self.source.virtual_size(), write)?;
        let (source, options, cancel) = (self.source, &self.options, self.cancel);
        match backing {
            None => copy(source, sink.as_ref(), options, cancel, &progress)?,
            Some(backing) => {
                copy_delta(source, backing, sink.as_ref(), options, cancel, &progress)?
            }
        };
        sink.finish()?;
        if cancel.is_cancelled() {
            return Err(image::Error::cancelled().into());
        }
        new.place()
    }

    /// Writes over a block device or a raw file.
    fn write_in_place(&self, output: &Path) -> Result<()> {
        let opening = || format!("opening {}", output.display());
        let file = File::options()
            .read(true)
            .write(true)
            .open(output)
            .with_context(opening)?;
        lock_exclusively(&file).with_context(|| output.display().to_string())?;
        let progress = |at| self.progress.at(at);
        let label = output.display().to_string();
        in_place::write(
            self.source,
            file,
            &label,
            &self.options,
            self.cancel,
            &progress,
        )?;
        Ok(())
    }
}

/// What goes only with a new file.
fn refuse_with_in_place(args: &Args) -> Result<()> {
    let shown = args.output.display();
    if args.output_format != OutputFormat::Raw {
        bail!(
            "{shown}: written in place it can only be raw, found -O {}; hint: -O raw",
            args.output_format
        );
    }
    for (option, used) in [
        ("-B", args.backing.is_some()),
        ("-c", args.compress),
        ("-o", !args.options.is_empty()),
    ] {
        if used {
            bail!("{option} does not go with -n or a block device: {shown} is written as it is");
        }
    }
    Ok(())
}

/// The backing file of the target, by `-B` or `-o backing_file=`, open and noted in the options. Its name means a
/// file beside the target.
fn backing(args: &Args, pairs: &mut Vec<(String, String)>) -> Result<Option<Arc<dyn BlockSource>>> {
    if let Some(name) = &args.backing {
        let Some(format) = args.backing_format else {
            bail!("-B {name}: the format of the backing file must be said; hint: -F qcow2");
        };
        if pairs.iter().any(|(key, _)| key.starts_with("backing_f")) {
            bail!("-B {name} and -o backing_file cannot both be given");
        }
        pairs.push(("backing_file".to_owned(), name.clone()));
        pairs.push(("backing_fmt".to_owned(), format.to_string()));
    }
    let value = |wanted: &str| pairs.iter().find(|(key, _)| key == wanted);
    let Some((_, name)) = value("backing_file") else {
        return Ok(None);
    };
    let format = match value("backing_fmt") {
        Some((_, format)) => format.parse::<Format>().context("backing_fmt")?,
        None => bail!("backing_file={name}: the format must be said; hint: backing_fmt=qcow2"),
    };
    let path = beside(&args.output, name);
    let chain = args.reach.open(path.as_os_str(), Some(format), None)?;
    Ok(Some(chain.source))
}

/// The file that an image at `image` means by `name`.
pub(super) fn beside(image: &Path, name: &str) -> PathBuf {
    image.parent().unwrap_or(Path::new("")).join(name)
}

/// `KEY=VALUE,KEY=VALUE`, several times; a comma in a value is doubled, as qemu-img wants it.
pub(super) fn parse_pairs(options: &[String]) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for option in options {
        let unescaped = option.replace(",,", "\0");
        for pair in unescaped.split(',') {
            let pair = pair.replace('\0', ",");
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) if !key.is_empty() => (key, value),
                _ => bail!("-o {option}: expected KEY=VALUE, found {pair:?}"),
            };
            if pairs.iter().any(|(seen, _)| seen == key) {
                bail!("-o {option}: {key} is given twice");
            }
            pairs.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(pairs)
}

/// `-l`: an identifier or a name, or either said to be which.
fn snapshot_name(text: &str) -> String {
    let stated = text
        .strip_prefix("snapshot.id=")
        .or_else(|| text.strip_prefix("snapshot.name="));
    stated.unwrap_or(text).to_owned()
}

fn is_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.file_type().is_block_device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_pairs_and_a_doubled_comma_is_one() {
        let parse = |text: &str| parse_pairs(&[text.to_owned()]);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            parse("cluster_size=64k,backing_file=a,,b=c").unwrap(),
            [pair("cluster_size", "64k"), pair("backing_file", "a,b=c")]
        );
        for wrong in ["cluster_size", "=x", "a=1,", "a=1,a=2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(snapshot_name("snapshot.name=s1"), "s1");
        assert_eq!(snapshot_name("s1"), "s1");
    }
}
