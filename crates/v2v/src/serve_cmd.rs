//! `v2v serve`: the converter server. Its own options are told from those of a conversion, which stay words: they are
//! the defaults of every job, and a job's own words go over them.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Command, CommandFactory, FromArgMatches, Parser};
use server::{ServerConfig, Started};
use types::CancelToken;

use crate::admin::STATE;
use crate::cli::Cli;
use crate::job_options;
use crate::normalise::normalise;
use crate::options;
use crate::signals;
use crate::units;

/// Options of `v2v serve` that are no options of a conversion.
#[derive(Debug, Parser)]
#[command(
    name = "v2v serve",
    about = "Receives physical machines and converts them: the server of the P2V image",
    override_usage = "v2v serve [OPTIONS] [CONVERSION OPTIONS]",
    after_help = "Options of a conversion, as in `v2v --help`, are the defaults of every job:\n\
                  -o -os -of -oc -oo -oa --overwrite --keep-uuid -n -b --mac --root --key\n\
                  --no-fstrim --memsize --smp --parallel.\n\
                  A job can have others when it is approved.",
    max_term_width = 80,
    infer_long_args = true
)]
pub(crate) struct ServeCli {
    /// Folder for all that must survive a restart
    #[arg(long, value_name = "DIR", default_value = STATE)]
    state: PathBuf,
    /// Where machines connect to; several [default: 0.0.0.0:7440 and [::]:7440]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Where the web page is, or none; by TLS unless it is a loopback address
    #[arg(long, value_name = "ADDR:PORT|none", default_value = "127.0.0.1:7480", value_parser = web_address)]
    web: Web,
    /// Jobs start without approval
    #[arg(long)]
    auto_approve: bool,
    /// Jobs that run at the same time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = at_least_one)]
    jobs: usize,
    /// Most bytes a second of one job: 100M, or 800Mbit
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    bandwidth_per_job: Option<u64>,
    /// Most bytes a second of all jobs together
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    bandwidth: Option<u64>,
    /// Space that stays free where the state is
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = units::size)]
    reserve: u64,
    /// Keep what was received, and send only what changed when a machine comes again
    #[arg(long)]
    resync: bool,
    /// A job may end with unreadable sectors, which are zero in the guest
    #[arg(long)]
    allow_bad_sectors: bool,
    /// For the proof, read every block of the machine once more
    #[arg(long)]
    reread_proof: bool,
    /// Follow the output options that a machine asks for (p2v.o= and the like)
    #[arg(long)]
    agents_choose_output: bool,
    /// How long a job waits for a machine that is away: 30m, 1d [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    agent_patience: Option<Duration>,
    /// Only warnings and errors on stderr
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Also what is decided
    #[arg(short = 'v', long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Web {
    At(SocketAddr),
    None,
}

fn web_address(text: &str) -> Result<Web, String> {
    match text {
        "none" => Ok(Web::None),
        text => text
            .parse()
            .map(Web::At)
            .map_err(|_| "expected ADDR:PORT or none".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("expected a number of at least 1".to_owned()),
    }
}

/// Runs the command line that follows `v2v serve`, until a signal.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<()> {
    let (own, words) = split(args)?;
    let matches =
        ServeCli::command().get_matches_from(std::iter::once("v2v serve".into()).chain(own));
    let cli = ServeCli::from_arg_matches(&matches)?;
    log_to_stderr(&cli);
    let config = config(&cli, words)?;
    let cancel = CancelToken::new();
    signals::listen(&cancel).context("listening for signals")?;
    let started = |started: &Started| announce(started, &mut io::stdout());
    Ok(server::run(config, started, &cancel)?)
}

/// The words of the server, and those of a conversion, each with its value in it.
fn split(args: impl Iterator<Item = OsString>) -> Result<(Vec<OsString>, Vec<String>)> {
    let mut own = ServeCli::command();
    own.build();
    let mut conversion = Cli::command();
    conversion.build();
    let mut both = own.clone();
    for arg in conversion.get_arguments() {
        let known = own.get_arguments().any(|own| {
            own.get_id() == arg.get_id()
                || (own.get_short().is_some() && own.get_short() == arg.get_short())
                || (own.get_long().is_some() && own.get_long() == arg.get_long())
        });
        if !known {
            both = both.arg(arg.clone());
        }
    }
    let (mut mine, mut words) = (Vec::new(), Vec::new());
    for word in normalise(&both, args) {
        if is_option_of(&own, &word) {
            mine.push(word);
        } else {
            let text = word
                .into_string()
                .map_err(|word| anyhow::anyhow!("{}: expected UTF-8", word.to_string_lossy()))?;
            words.push(text);
        }
    }
    Ok((mine, words))
}

fn is_option_of(command: &Command, word: &OsString) -> bool {
    let Some(text) = word.to_str() else {
        return false;
    };
    if let Some(long) = text.strip_prefix("--") {
        let name = long.split('=').next().unwrap_or(long);
        return command
            .get_arguments()
            .any(|arg| arg.get_long() == Some(name));
    }
    let letter = text.strip_prefix('-').and_then(|rest| rest.chars().next());
    letter.is_some() && command.get_arguments().any(|arg| arg.get_short() == letter)
}

fn config(cli: &ServeCli, words: Vec<String>) -> Result<ServerConfig> {
    let (keys, words): (Vec<_>, Vec<_>) = words
        .into_iter()
        .partition(|word| word.starts_with("--key="));
    // Keys are no words: what a job was told is stored and shown.
    let keys = keys
        .iter()
        .map(|word| options::key(word.trim_start_matches("--key=")))
        .collect::<Result<Vec<_>>>()?;
    job_options::parse(&words).map_err(anyhow::Error::msg)?;
    for (option, why) in [
        ("--on=", "-on would give every guest the same name"),
        ("--report=", "--report would be written over by every job"),
    ] {
        if words.iter().any(|word| word.starts_with(option)) {
            bail!("{why}: say it when a job is approved");
        }
    }
    let parse = move |words: &[String]| {
        let mut conversion = job_options::parse(words)?;
        conversion.keys.extend(keys.iter().cloned());
        Ok(conversion)
    };
    let both = [
        SocketAddr::from(([0; 4], wire::P2V_PORT)),
        SocketAddr::from(([0; 16], wire::P2V_PORT)),
    ];
    Ok(ServerConfig {
        state: cli.state.clone(),
        listen: if cli.listen.is_empty() {
            both.to_vec()
        } else {
            cli.listen.clone()
        },
        web: match cli.web {
            Web::At(address) => Some(address),
            Web::None => None,
        },
        options: words,
        parse: Arc::new(parse),
        auto_approve: cli.auto_approve,
        max_jobs: cli.jobs,
        job_bandwidth: cli.bandwidth_per_job,
        total_bandwidth: cli.bandwidth,
        reserve_bytes: cli.reserve,
        resync: cli.resync,
        allow_bad_sectors: cli.allow_bad_sectors,
        reread_proof: cli.reread_proof,
        agents_choose_output: cli.agents_choose_output,
        agent_patience: cli.agent_patience,
    })
}

/// One line a fact. Nobody has to read them: a closed stdout ends no server.
fn announce(started: &Started, out: &mut dyn Write) {
    let mut text = String::new();
    for address in &started.addresses {
        text.push_str(&format!("listening on {address}\n"));
    }
    text.push_str(&format!("fingerprint {}\n", started.fingerprint));
    if let Some(link) = &started.web {
        text.push_str(&format!("web page {link}\n"));
    }
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn log_to_stderr(cli: &ServeCli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "warn",
        (_, true) => "debug",
        _ => "info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("V2V_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}

/// For the tests of every command line.
#[cfg(test)]
pub(crate) fn assert_help_fits(mut command: Command) {
    command.clone().debug_assert();
    command.build();
    let mut commands = vec![command];
    while let Some(mut command) = commands.pop() {
        commands.extend(command.get_subcommands().cloned());
        for help in [command.render_help(), command.render_long_help()] {
            for line in help.to_string().lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use convert::RootChoice;
    use target::TargetKind;

    use super::*;
    use wire::join::Fingerprint;

    fn parsed(args: &[&str]) -> Result<ServerConfig> {
        let (own, words) = split(args.iter().map(OsString::from))?;
        let matches = ServeCli::command()
            .try_get_matches_from(std::iter::once("v2v serve".into()).chain(own))?;
        config(&ServeCli::from_arg_matches(&matches)?, words)
    }

    #[test]
    fn help_fits_eighty_columns() {
        assert_help_fits(ServeCli::command());
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let config = parsed(&[]).unwrap();
        assert_eq!(config.state, PathBuf::from("/var/lib/v2v"));
        let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["0.0.0.0:7440", "[::]:7440"]);
        assert_eq!(config.web.unwrap().to_string(), "127.0.0.1:7480");
        assert_eq!((config.max_jobs, config.reserve_bytes), (2, 1 << 30));
        assert_eq!((config.job_bandwidth, config.agent_patience), (None, None));
        assert!(config.options.is_empty() && !config.auto_approve);
    }

    #[test]
    fn options_of_the_server_and_of_its_jobs_are_told_apart() {
        let config = parsed(&[
            "--state",
            "/s",
            "-o",
            "local",
            "--listen",
            "127.0.0.1:1",
            "-os",
            "/d",
            "--web",
            "none",
            "-auto-approve",
            "--jobs=4",
            "-of=qcow2",
            "--bandwidth",
            "1Gbit",
            "--bandwidth-per-job",
            "50M",
            "-n",
            "default",
            "--reserve",
            "5G",
            "--resync",
            "--allow-bad-sectors",
            "-v",
            "--reread-proof",
            "--agents-choose-output",
            "--agent-patience",
            "2h",
            "-b",
            "--odd",
            "--parallel",
            "2",
        ]);
        // Two default networks in one list: the later counts.
        let config = config.unwrap();
        assert_eq!(
            config.options,
            [
                "-olocal",
                "--os=/d",
                "--of=qcow2",
                "-ndefault",
                "-b--odd",
                "--parallel=2"
            ]
        );
        assert_eq!(config.listen, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!((config.web, config.max_jobs), (None, 4));
        assert_eq!(
            (config.total_bandwidth, config.job_bandwidth),
            (Some(125_000_000), Some(50 << 20))
        );
        assert_eq!(config.agent_patience, Some(Duration::from_secs(7200)));
        assert!(config.auto_approve && config.resync && config.allow_bad_sectors);
        assert!(config.reread_proof && config.agents_choose_output);
        let conversion = (config.parse)(&config.options).unwrap();
        assert!(matches!(conversion.target.kind, TargetKind::Local { .. }));
        assert_eq!(
            (conversion.root, conversion.parallel),
            (RootChoice::Single, 2)
        );
    }

    #[test]
    fn keys_reach_every_job_and_no_record() {
        let config = parsed(&["-o", "null", "--key", "all:key:hunter2"]).unwrap();
        assert_eq!(config.options, ["-onull"]);
        let conversion = (config.parse)(&config.options).unwrap();
        assert_eq!(conversion.keys[0].secret, b"hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = format!("{:#}", parsed(&["--key", "hunter2"]).unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (args, word) in [
            (&["-i", "disk"][..], "-i "),
            (&["x.ova"], "x.ova"),
            (&["-on", "web1"], "-on"),
            (&["--report", "/r"], "--report"),
            (&["--root", "ask"], "--root ask"),
            (&["-o", "rhv"], "-o rhv"),
            (&["--jobs", "0"], "--jobs"),
            (&["--web", "here"], "--web"),
            (&["--listen", "here"], "--listen"),
            (&["--bandwidth", "fast"], "--bandwidth"),
            (&["--agent-patience", "5"], "--agent-patience"),
            (&["--wrong"], "--wrong"),
        ] {
            let error = format!("{:#}", parsed(args).unwrap_err());
            assert!(error.contains(word), "{args:?}: {error}");
        }
    }

    #[test]
    fn the_start_is_one_fact_a_line() {
        let started = Started {
            addresses: vec![
                "0.0.0.0:7440".parse().unwrap(),
                "[::]:7440".parse().unwrap(),
            ],
            web: Some("http://127.0.0.1:7480/?key=k".into()),
            fingerprint: Fingerprint([0xab; 32]),
        };
        let mut out = Vec::new();
        announce(&started, &mut out);
        let expected = format!(
            "listening on 0.0.0.0:7440\nlistening on [::]:7440\nfingerprint {}\nweb page http://127.0.0.1:7480/?key=k\n",
            "ab".repeat(32)
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
