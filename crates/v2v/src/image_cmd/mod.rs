//! `v2v image …`: what qemu-img is for, with qemu-img's letters, meanings and exit codes wherever it has them.

mod check;
mod compare;
mod convert;
mod create;
pub(crate) mod humane;
mod in_use;
mod info;
mod map;
mod open;
pub(crate) mod output;
mod progress;
mod resize;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Parser, Subcommand, ValueEnum};
use types::CancelToken;

/// Options of `v2v image`.
#[derive(Debug, Parser)]
#[command(
    name = "v2v image",
    about = "Works on disk images, as qemu-img does",
    max_term_width = 80
)]
pub(crate) struct ImageCli {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    Info(info::Args),
    Convert(convert::Args),
    Check(check::Args),
    Compare(compare::Args),
    Map(map::Args),
    Create(create::Args),
    Resize(resize::Args),
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum OutputStyle {
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
}

/// The end of a command that could not do its work: the error, and the exit status that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What went wrong.
    pub(crate) error: anyhow::Error,
    /// Exit status.
    pub(crate) status: u8,
}

impl Failure {
    fn new(status: u8, error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            status,
        }
    }
}

/// Exit status of a failure where qemu-img knows but one.
const FAILED: u8 = 1;

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(FAILED, error)
    }
}

impl From<image::Error> for Failure {
    fn from(error: image::Error) -> Self {
        Self::new(FAILED, error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(FAILED, error)
    }
}

/// What a command returns: its exit status.
type Outcome = Result<u8, Failure>;

/// Runs the command line that follows `v2v image`; returns the exit status.
pub(crate) fn run(args: impl Iterator<Item = OsString>, cancel: &CancelToken) -> Outcome {
    let cli = ImageCli::parse_from(std::iter::once("v2v image".into()).chain(args));
    match &cli.command {
        ImageCommand::Info(args) => info::run(args),
        ImageCommand::Convert(args) => convert::run(args, cancel),
        ImageCommand::Check(args) => check::run(args, cancel),
        ImageCommand::Compare(args) => compare::run(args, cancel),
        ImageCommand::Map(args) => map::run(args, cancel),
        ImageCommand::Create(args) => create::run(args),
        ImageCommand::Resize(args) => resize::run(args),
    }
}

/// Prints data. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints a JSON value as qemu-img does, with four spaces.
fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, format);
    serde::Serialize::serialize(value, &mut serializer)?;
    bytes.push(b'\n');
    Ok(print(&String::from_utf8_lossy(&bytes))?)
}

/// Says something that is no data.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::ImageCli;

    #[test]
    fn the_command_line_is_consistent() {
        ImageCli::command().debug_assert();
    }

    #[test]
    fn help_fits_eighty_columns() {
        let mut command = ImageCli::command();
        command.build();
        for subcommand in command.get_subcommands_mut() {
            for help in [subcommand.render_help(), subcommand.render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{line}");
                }
            }
        }
    }
}
