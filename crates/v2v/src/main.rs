//! The v2v program: parses, dispatches, prints the one error line.

mod admin;
mod cli;
mod customise;
mod image_cmd;
mod input;
mod inspect_cmd;
mod iso_cmd;
mod job_options;
mod jobs_cmd;
mod normalise;
mod options;
mod printer;
mod serve_cmd;
mod signals;
mod table;
mod token_cmd;
mod units;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Command, CommandFactory, FromArgMatches};
use types::CancelToken;

use crate::cli::Cli;
use crate::image_cmd::Failure;
use crate::printer::Printer;

fn main() -> ExitCode {
    if let Some(file) = std::env::var_os(source::PASSWORD_FILE_VARIABLE) {
        return input::answer_ssh(Path::new(&file));
    }
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let rest = || args.clone().into_iter().skip(1);
    let done = |result: Result<()>| result.map(|()| 0).map_err(Failure::from);
    let result = match args.first().and_then(|first| first.to_str()) {
        Some("image") => run_image(args),
        Some("serve") => done(serve_cmd::run(rest())),
        Some("token") => done(token_cmd::run(rest())),
        Some("inspect") => inspect_cmd::run(rest()),
        Some("jobs") => done(jobs_cmd::run(rest())),
        Some("iso") => iso_cmd::run(rest()).map_err(Failure::from),
        _ => done(run_conversion(args)),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            let line = one_line(&failure.error);
            let _ = writeln!(io::stderr(), "v2v: error: {line}");
            ExitCode::from(failure.status)
        }
    }
}

fn run_image(args: Vec<OsString>) -> Result<u8, Failure> {
    let cancel = CancelToken::new();
    signals::listen(&cancel).context("listening for signals")?;
    image_cmd::run(args.into_iter().skip(1), &cancel)
}

fn run_conversion(args: Vec<OsString>) -> Result<()> {
    let mut cli = parse(Cli::command(), args)?;
    log_to_stderr(&cli);
    if cli.json && !cli.print_source {
        bail!("--json goes with --print-source, or with `v2v inspect`");
    }
    if cli.machine_readable.is_some() && cli.sources.is_empty() && cli.input_mode.is_none() {
        return Ok(io::stdout().write_all(CAPABILITIES.as_bytes())?);
    }
    let generated = cli.customise.expand()?;
    let job = options::job(&cli)?;
    if cli.print_source {
        return print_source(&job, cli.json);
    }
    let json = cli
        .machine_readable
        .as_deref()
        .map(printer::json_stream)
        .transpose()
        .context("--machine-readable")?;
    if !generated.is_empty()
        && matches!(
            cli.machine_readable.as_deref(),
            Some("stream:stdout" | "fd:1")
        )
    {
        bail!(
            "a random password is printed on stdout, which --machine-readable uses: give it stream:stderr or file:NAME"
        );
    }
    let cancel = CancelToken::new();
    signals::listen(&cancel).context("listening for signals")?;
    let printer = Printer::new(cli.quiet, cli.verbose, json);
    match convert::run(&job, &printer, &cancel) {
        Ok(outcome) => {
            printer.end(Ok(&outcome));
            tell(&generated)
        }
        Err(error) => {
            let line = with_hint(error);
            printer.end(Err(&line));
            Err(anyhow::Error::msg(line))
        }
    }
}

/// The only place where random passwords are told.
fn tell(generated: &[customise::Generated]) -> Result<()> {
    let mut stdout = io::stdout();
    for customise::Generated { user, password } in generated {
        writeln!(stdout, "random password of {user}: {password}")?;
    }
    Ok(stdout.flush()?)
}

/// The command line as `command` has it; `--help` and what is wrong end the program here.
fn parse(mut command: Command, args: impl IntoIterator<Item = OsString>) -> Result<Cli> {
    command.build();
    let args = normalise::normalise(&command, args);
    let name = command.get_name().to_owned().into();
    match command.try_get_matches_from(std::iter::once(name).chain(args)) {
        Ok(matches) => Ok(Cli::from_arg_matches(&matches)?),
        Err(error) if error.use_stderr() => {
            let _ = error.print();
            std::process::exit(1);
        }
        Err(help) => help.exit(),
    }
}

fn print_source(job: &convert::Job, json: bool) -> Result<()> {
    let opened = convert::examine(job)?;
    let text = if json {
        serde_json::to_string_pretty(&opened.machine)? + "\n"
    } else {
        source::describe(&opened)
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// A failed conversion on one line.
fn with_hint(error: convert::Error) -> String {
    let hint = error.hint().map(str::to_owned);
    let line = one_line(&anyhow::Error::from(error));
    hint.map_or_else(|| line.clone(), |hint| format!("{line} (hint: {hint})"))
}

/// The chain of causes on one line, each once.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().replace(['\n', '\r'], " ");
        if !line.contains(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
    }
    line
}

fn log_to_stderr(cli: &Cli) {
    let level = match (cli.trace, cli.verbose) {
        (true, _) => "debug",
        (_, true) => "info",
        _ => "error",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("V2V_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .without_time()
        .init();
}

/// `--machine-readable` alone: one capability a line, as virt-v2v prints them.
const CAPABILITIES: &str = "v2v\n\
    colours-option\n\
    customize-ops\n\
    io\n\
    mac-option\n\
    mac-ip-option\n\
    parallel-option\n\
    report-option\n\
    json-events\n\
    input:disk\n\
    input:hyperv\n\
    input:libvirt\n\
    input:libvirtxml\n\
    input:ova\n\
    input:vbox\n\
    input:vmx\n\
    output:libvirt\n\
    output:local\n\
    output:null\n\
    output:qemu\n\
    convert:linux\n";
