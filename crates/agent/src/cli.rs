//! The command line of `p2v-agent`. Few options, read by hand: the program is to stay small.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use data_encoding::HEXLOWER_PERMISSIVE;

use crate::app::{AppOptions, Controller, End, Host};
use crate::config::{Config, Post, split_command_line};
use crate::hosts::{Given, Machine};
use crate::{init, inventory_json, parts};

const COMMAND_LINE: &str = "/proc/cmdline";
/// Log filter, in the words of tracing-subscriber.
const LOG_VARIABLE: &str = "P2V_LOG";

const HELP: &str = "\
p2v-agent: shows the disks of this machine to a v2v converter server

usage:
  p2v-agent run --join STRING [--disk FILE]... [--name NAME] [--word WORD]...
                sends without asking; exit status 0 once the job is done
  p2v-agent console [--word WORD]...
                the screens, on this terminal
  p2v-agent inventory [--json]
                what is found on this machine
  p2v-agent dump [--word WORD]...
                what is understood of the kernel command line and the words
As PID 1 it sets the machine up and obeys the kernel command line.

  --join STRING     as `v2v token create` prints it; same as --word p2v.join=
  --disk FILE       send this file or device instead of the machine's disks
  --name NAME       name of the guest; same as --word p2v.name=
  --word WORD       a word of the kernel command line, e.g. p2v.memory=4G
  --machine-id HEX  64 digits in place of this machine's identity
";

#[derive(Default)]
struct Options {
    words: Vec<String>,
    disks: Vec<PathBuf>,
    machine_id: Option<[u8; 32]>,
    json: bool,
}

/// Runs the program with its arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    arguments.next();
    start_log();
    init::start();
    if init::is_under_init() {
        return as_init();
    }
    match dispatch(arguments) {
        Ok(code) => code,
        Err(error) => {
            say(&mut io::stderr(), &format!("p2v-agent: {error}"));
            ExitCode::from(2)
        }
    }
}

fn start_log() {
    let filter = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| "off".to_owned());
    let filter = tracing_subscriber::EnvFilter::new(filter);
    // It fails where a test has set one up already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .without_time()
        .try_init();
}

fn say(to: &mut dyn Write, line: &str) {
    // Nobody listens any more: the work goes on.
    let _ = writeln!(to, "{line}");
}

fn dispatch(mut arguments: impl Iterator<Item = OsString>) -> Result<ExitCode, String> {
    let command = arguments.next().unwrap_or_default();
    let command = command.to_string_lossy();
    if matches!(command.as_ref(), "" | "help" | "--help" | "-h") {
        let _ = io::stdout().write_all(HELP.as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    if command == "--version" {
        say(
            &mut io::stdout(),
            concat!("p2v-agent ", env!("CARGO_PKG_VERSION")),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let options = options(arguments)?;
    match command.as_ref() {
        "run" => run(&options),
        "console" => console(&options),
        "inventory" => inventory(&options),
        "dump" => {
            let mut words = kernel_words();
            words.extend(options.words);
            let _ = io::stdout().write_all(Config::from_words(words).dump().as_bytes());
            Ok(ExitCode::SUCCESS)
        }
        other => Err(format!("there is no command {other}; see p2v-agent --help")),
    }
}

fn options(mut arguments: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let argument = argument
            .into_string()
            .map_err(|_| "an option is not UTF-8")?;
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.into())),
            _ => (argument.as_str(), None),
        };
        if name == "--json" {
            options.json = true;
            continue;
        }
        if !matches!(
            name,
            "--join" | "--name" | "--word" | "--disk" | "--machine-id"
        ) {
            return Err(format!("there is no option {name}; see p2v-agent --help"));
        }
        let value: OsString = inline
            .or_else(|| arguments.next())
            .ok_or_else(|| format!("{name}: a value is missing"))?;
        if name == "--disk" {
            options.disks.push(value.into());
            continue;
        }
        let value = value
            .into_string()
            .map_err(|_| format!("{name}: it is not UTF-8"))?;
        match name {
            "--join" => options.words.push(format!("p2v.join={value}")),
            "--name" => options.words.push(format!("p2v.name={value}")),
            "--word" => options.words.push(value),
            _ => {
                let id = HEXLOWER_PERMISSIVE.decode(value.as_bytes()).ok();
                let id = id.and_then(|id| id.try_into().ok());
                options.machine_id =
                    Some(id.ok_or("--machine-id: expected 64 hexadecimal digits")?);
            }
        }
    }
    Ok(options)
}

fn kernel_words() -> Vec<String> {
    split_command_line(&std::fs::read_to_string(COMMAND_LINE).unwrap_or_default())
}

fn host(options: &Options) -> Result<Arc<dyn Host>, String> {
    Ok(if options.disks.is_empty() {
        Arc::new(Machine {
            machine_id: options.machine_id,
        })
    } else {
        Arc::new(Given::new(&options.disks, options.machine_id)?)
    })
}

/// Sends without asking. Words of the kernel command line do not count: it is another system's.
fn run(options: &Options) -> Result<ExitCode, String> {
    let mut config = Config::from_words(&options.words);
    if let Some(problem) = config.problems.first() {
        return Err(problem.clone());
    }
    config.target()?;
    config.unattended = true;
    let end = with_runtime(async {
        let app = AppOptions {
            network: false,
            end_with_job: true,
            print: Some(Arc::new(|line| say(&mut io::stdout(), line))),
            first_pause: None,
        };
        let (controller, handle) = Controller::new(config, host(options)?, app);
        let end = controller.run().await;
        drop(handle);
        Ok(end)
    })?;
    Ok(exit_code(&end))
}

fn exit_code(end: &End) -> ExitCode {
    if let Some(error) = &end.error {
        say(&mut io::stderr(), &format!("p2v-agent: {error}"));
    }
    if end.success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn console(options: &Options) -> Result<ExitCode, String> {
    let config = Config::from_words(&options.words);
    let end = with_runtime(async {
        let (controller, handle) = Controller::new(config, host(options)?, AppOptions::default());
        let screens = parts::screens(&handle);
        let end = controller.run().await;
        drop(screens);
        Ok(end)
    })?;
    Ok(exit_code(&end))
}

fn inventory(options: &Options) -> Result<ExitCode, String> {
    let found = host(options)?.detect().inventory;
    let value = inventory_json::json(&found);
    let text = if options.json {
        serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?
    } else {
        inventory_json::lines(&value)
    };
    say(&mut io::stdout(), text.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn with_runtime<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting threads: {error}"))?;
    let result = runtime.block_on(work);
    // A read that hangs in the kernel is not waited for.
    runtime.shutdown_background();
    result
}

/// As PID 1: the machine is ours.
fn as_init() -> ExitCode {
    let config = Config::from_words(kernel_words());
    if config.dump_config_and_exit {
        say(&mut io::stdout(), config.dump().trim_end());
        init::end(Post::Poweroff);
        return ExitCode::SUCCESS;
    }
    let end = with_runtime(async {
        let app = AppOptions {
            network: true,
            ..AppOptions::default()
        };
        let host = Arc::new(Machine { machine_id: None });
        let (controller, handle) = Controller::new(config, host, app);
        let screens = parts::screens(&handle);
        let end = controller.run().await;
        drop(screens);
        Ok(end)
    });
    match end {
        Ok(end) => {
            let code = exit_code(&end);
            init::end(end.post);
            code
        }
        Err(error) => {
            say(&mut io::stderr(), &format!("p2v-agent: {error}"));
            init::end(Post::Shell);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Options, String> {
        options(arguments.iter().map(OsString::from))
    }

    #[test]
    fn options_are_read_in_both_forms() {
        let id = "ab".repeat(32);
        let found = read(&[
            "--join",
            "v2v1.x",
            "--disk",
            "/a",
            "--disk=/b",
            "--name=web",
            "--word",
            "p2v.memory=4G",
            "--machine-id",
            &id,
            "--json",
        ])
        .ok()
        .unwrap();
        assert_eq!(
            found.words,
            ["p2v.join=v2v1.x", "p2v.name=web", "p2v.memory=4G"]
        );
        assert_eq!(found.disks, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(found.machine_id, Some([0xab; 32]));
        assert!(found.json);
        for wrong in [&["--nonsense"][..], &["--disk"], &["--machine-id", "12"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
