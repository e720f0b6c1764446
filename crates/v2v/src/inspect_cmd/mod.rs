//! `v2v inspect SOURCE…`: what a conversion would do and meet, before anything is copied. The guest is really
//! converted, on overlays that are thrown away.
//!
//! Exit status: 0 when it can be converted, 2 when something in the guest forbids it, 1 when that could not be found
//! out.

mod text;

use std::ffi::OsString;

use anyhow::{Context, anyhow, bail};
use clap::{Command, CommandFactory};
use convert::report::Inspection;
use types::CancelToken;

use crate::cli::Cli;
use crate::image_cmd::Failure;
use crate::printer::{self, Printer};
use crate::{log_to_stderr, options, parse, signals, table, with_hint};

/// Exit status where the guest is the reason.
const BLOCKED: u8 = 2;
/// Options of a conversion that mean nothing before one.
const NOT_HERE: [&str; 13] = [
    "output_mode",
    "output_format",
    "output_allocation",
    "output_connection",
    "output_name",
    "output_options",
    "output_storage",
    "overwrite",
    "keep_uuid",
    "keep_smbios",
    "parallel",
    "report",
    "print_source",
];

/// Runs the command line that follows `v2v inspect`; returns the exit status.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    let mut cli = parse(command(), args)?;
    log_to_stderr(&cli);
    refuse(&cli)?;
    cli.output_mode = Some("null".to_owned());
    let job = options::job(&cli)?;
    let events = cli.machine_readable.as_deref().map(printer::json_stream);
    let events = events.transpose().context("--machine-readable")?;
    let cancel = CancelToken::new();
    signals::listen(&cancel).context("listening for signals")?;
    let printer = Printer::new(cli.quiet, cli.verbose, events).for_inspection();
    let inspection = convert::inspect(&job, &printer, &cancel).map_err(|error| {
        let line = with_hint(error);
        printer.end(Err(&line));
        anyhow!(line)
    })?;
    printer.inspected(inspection.convertible);
    let text = if cli.json {
        serde_json::to_string_pretty(&inspection).context("writing JSON")? + "\n"
    } else {
        text::describe(&inspection)
    };
    table::print(&text)?;
    Ok(status(&inspection))
}

fn status(inspection: &Inspection) -> u8 {
    if inspection.convertible { 0 } else { BLOCKED }
}

/// The options of a conversion with their meanings, those that do not go here hidden.
fn command() -> Command {
    Cli::command()
        .name("v2v inspect")
        .bin_name("v2v inspect")
        .about("Says what converting a guest would do and meet; nothing is copied or kept")
        .override_usage("v2v inspect [-i MODE] [OPTIONS] SOURCE...")
        .after_help(
            "Exit status: 0 convertible, 2 the guest cannot be converted as it is, 1 it could not be found out.",
        )
        .mut_args(|arg| {
            let hidden = NOT_HERE.contains(&arg.get_id().as_str());
            if hidden { arg.hide(true) } else { arg }
        })
        .mut_arg("json", |arg| arg.help("Print everything, as JSON"))
}

fn refuse(cli: &Cli) -> anyhow::Result<()> {
    for (given, option) in [
        (cli.output_mode.is_some(), "-o"),
        (cli.output_format.is_some(), "-of"),
        (cli.output_allocation.is_some(), "-oa"),
        (cli.output_connection.is_some(), "-oc"),
        (cli.output_name.is_some(), "-on"),
        (!cli.output_options.is_empty(), "-oo"),
        (cli.output_storage.is_some(), "-os"),
        (cli.overwrite, "--overwrite"),
        (cli.keep_uuid, "--keep-uuid"),
        (cli.keep_smbios, "--keep-smbios"),
        (cli.parallel.is_some(), "--parallel"),
        (cli.report.is_some(), "--report"),
        (cli.print_source, "--print-source"),
    ] {
        if given {
            bail!("{option} does not go with inspect: nothing is written");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(args: &[&str]) -> String {
        let cli = parse(command(), args.iter().map(OsString::from)).unwrap();
        refuse(&cli).unwrap_err().to_string()
    }

    #[test]
    fn what_writes_does_not_go_here() {
        assert!(refused(&["-i", "disk", "-os", "/x", "d"]).contains("-os"));
        assert!(refused(&["-i", "disk", "--report=r", "d"]).contains("--report"));
        assert!(refused(&["-o", "local", "d"]).starts_with("-o does"));
    }

    #[test]
    fn help_shows_input_and_no_output() {
        let help = command().render_help().to_string();
        assert!(help.contains("--key") && help.contains("--json") && help.contains("Exit status"));
        assert!(!help.contains("--overwrite") && !help.contains("--print-source"));
        for id in NOT_HERE {
            assert!(
                command().get_arguments().any(|arg| arg.get_id() == id),
                "{id}"
            );
        }
    }
}
