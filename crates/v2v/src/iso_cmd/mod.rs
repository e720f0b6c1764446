//! `v2v iso …`: puts configuration into a P2V ISO that was built before, without root and without another program.

mod custom;
mod customize;
mod iso9660;

use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Options of `v2v iso`.
#[derive(Debug, Parser)]
#[command(
    name = "v2v iso",
    about = "Works on the ISO that physical machines boot",
    max_term_width = 80
)]
struct IsoCli {
    #[command(subcommand)]
    command: IsoCommand,
}

#[derive(Debug, Subcommand)]
enum IsoCommand {
    Customize(customize::Args),
}

/// Runs the command line that follows `v2v iso`; returns the exit status.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<u8> {
    let cli = IsoCli::parse_from(std::iter::once("v2v iso".into()).chain(args));
    match &cli.command {
        IsoCommand::Customize(args) => customize::run(args)?,
    }
    Ok(0)
}

/// Prints data. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::IsoCli;

    #[test]
    fn the_command_line_is_consistent_and_its_help_fits_eighty_columns() {
        let mut command = IsoCli::command();
        command.clone().debug_assert();
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
