//! `v2v image convert`: copies a disk image without touching what is in it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use image::Preallocation;
use image::copy::CopyOptions;
use image::formats::{Format, OutputFormat};
use types::CancelToken;

/// Options of `v2v image`.
#[derive(Debug, Parser)]
#[command(name = "v2v image", about = "Works on disk images")]
pub(crate) struct ImageCli {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Copy SRC to DST in another format
    Convert {
        /// Format of SRC instead of detecting it
        #[arg(short = 'f', value_name = "FORMAT")]
        source_format: Option<Format>,
        /// Format of DST
        #[arg(short = 'O', value_name = "FORMAT", default_value = "qcow2")]
        output_format: OutputFormat,
        /// Threads
        #[arg(short = 'm', value_name = "N")]
        threads: Option<usize>,
        /// Image to read
        source: PathBuf,
        /// Image to write; an existing file is refused
        output: PathBuf,
    },
}

/// Runs it.
pub(crate) fn run(cli: &ImageCli, cancel: &CancelToken) -> Result<()> {
    let ImageCommand::Convert {
        source_format,
        output_format,
        threads,
        source,
        output,
    } = &cli.command;
    if output.exists() {
        bail!("{}: exists already", output.display());
    }
    let disk = image::formats::open(
        source,
        &image::formats::OpenOptions::with_format(*source_format),
    )?;
    let name = output
        .file_name()
        .with_context(|| format!("{}: not a file name", output.display()))?;
    let temporary = output.with_file_name(format!(
        ".{}.v2v-{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    let result = (|| {
        let sink = image::formats::create(
            &temporary,
            *output_format,
            disk.virtual_size(),
            Preallocation::Sparse,
        )?;
        let options = match threads {
            Some(threads) => CopyOptions {
                threads: (*threads).max(1),
                ..CopyOptions::default()
            },
            None => CopyOptions::default(),
        };
        image::copy::copy(disk.as_ref(), sink.as_ref(), &options, cancel, &|_| {})?;
        sink.finish()?;
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            &temporary,
            rustix::fs::CWD,
            output,
            rustix::fs::RenameFlags::NOREPLACE,
        )
        .with_context(|| format!("naming {}", output.display()))
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}
