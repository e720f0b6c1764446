//! Options of a job of the server: v2v's words without a source, the server's first and the job's own over them.

use std::collections::HashSet;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use convert::{Conversion, RootChoice};
use source::SourceOptions;

use crate::cli::Cli;
use crate::normalise::normalise;
use crate::options;

/// Options that say to where, and mean nothing to another output mode.
const WHERE: [&str; 2] = ["--os=", "--oc="];

/// The conversion that `words` ask for; of words that contradict each other, the later counts.
pub(crate) fn parse(words: &[String]) -> Result<Conversion, String> {
    let mut command = Cli::command().args_override_self(true);
    command.build();
    let words = normalise(&command, words.iter().map(Into::into))
        .into_iter()
        .map(|word| word.into_string().map_err(|_| "expected UTF-8".to_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    let words = overlay(words);
    let matches = command
        .try_get_matches_from(std::iter::once("v2v".to_owned()).chain(words))
        .map_err(|error| first_line(&error))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| first_line(&error))?;
    refuse(&cli)?;
    let mut conversion = options::conversion(&cli, &SourceOptions::default())
        .map_err(|error| format!("{error:#}"))?;
    if conversion.root == RootChoice::Ask {
        if cli.root.is_some() {
            return Err("--root ask: a server has nobody to ask".to_owned());
        }
        conversion.root = RootChoice::Single;
    }
    Ok(conversion)
}

/// Takes out what a later word replaces, where clap would keep both: networks, MAC rules, and what belonged to another
/// output mode.
fn overlay(words: Vec<String>) -> Vec<String> {
    let words = without_old_output(words);
    let mut seen = HashSet::new();
    let mut kept: Vec<String> = words
        .into_iter()
        .rev()
        .filter(|word| replaced_by(word).is_none_or(|key| seen.insert(key)))
        .collect();
    kept.reverse();
    kept
}

/// What a word settles, if only one may: where the NICs of a source network go, or those of all others, or one NIC.
fn replaced_by(word: &str) -> Option<String> {
    if let Some(rule) = word.strip_prefix("--mac=") {
        let (mac, rest) = rule.split_at_checked(17)?;
        let kind = if rest.starts_with(":ip:") {
            "ip"
        } else {
            "net"
        };
        return Some(format!("{kind} {}", mac.to_ascii_lowercase()));
    }
    let rule = ["--network=", "--bridge=", "-n", "-b"]
        .into_iter()
        .find_map(|option| word.strip_prefix(option))?;
    match rule.split_once(':') {
        Some((from, _)) => Some(format!("from {from}")),
        None => Some("others".to_owned()),
    }
}

/// With a second `-o` of another mode, `-os`, `-oc` and `-oo` of the first go. Of `-os` and `-oc`, a list has one:
/// where there are two, the second was said with the second mode, in whatever order.
fn without_old_output(words: Vec<String>) -> Vec<String> {
    let modes: Vec<(usize, &str)> = words
        .iter()
        .enumerate()
        .filter_map(|(at, word)| Some((at, word.strip_prefix("-o")?)))
        .collect();
    let Some(&(last, mode)) = modes.last() else {
        return words;
    };
    if modes.iter().all(|(_, other)| *other == mode) {
        return words;
    }
    let is_old = |at: usize, word: &str| {
        if at > last {
            return false;
        }
        if let Some(option) = WHERE.into_iter().find(|option| word.starts_with(option)) {
            let of_kind: Vec<usize> = (0..words.len())
                .filter(|at| words[*at].starts_with(option))
                .collect();
            return of_kind.len() < 2 || of_kind.last() != Some(&at);
        }
        word.starts_with("--oo=")
    };
    words
        .iter()
        .enumerate()
        .filter(|(at, word)| !is_old(*at, word))
        .map(|(_, word)| word.clone())
        .collect()
}

/// What belongs to a source, or to one run of the program.
fn refuse(cli: &Cli) -> Result<(), String> {
    if let Some(source) = cli.sources.first() {
        return Err(format!(
            "{}: the source of a job is its machine, expected options only",
            source.display()
        ));
    }
    for (given, option) in [
        (cli.input_mode.is_some(), "-i"),
        (cli.input_format.is_some(), "-if"),
        (cli.input_connection.is_some(), "-ic"),
        (!cli.input_options.is_empty(), "-io"),
        (cli.input_transport.is_some(), "-it"),
        (cli.input_password.is_some(), "-ip"),
        (cli.vm.is_some(), "--vm"),
        (cli.base_dir.is_some(), "--base-dir"),
        (cli.print_source, "--print-source"),
    ] {
        if given {
            return Err(format!(
                "{option} does not go here: the source of a job is its machine"
            ));
        }
    }
    if !cli.keys.is_empty() {
        return Err(
            "--key does not go here: options are stored with the job, keys are given apart (v2v jobs approve --key, \
             or the fields of the web page)"
                .to_owned(),
        );
    }
    if let Some((option, why)) = cli.customise.not_for_a_job() {
        return Err(format!("--{option} does not go here: {why}"));
    }
    if cli.qemu_ga.is_some() {
        return Err("--qemu-ga does not go here: it reads a file of the server".to_owned());
    }
    for (given, option) in [
        (cli.json, "--json"),
        (cli.machine_readable.is_some(), "--machine-readable"),
        (cli.quiet, "-q"),
        (cli.verbose, "-v"),
        (cli.trace, "-x"),
    ] {
        if given {
            return Err(format!("{option} does not go here: it is no job's option"));
        }
    }
    Ok(())
}

/// What clap says, without its usage.
fn first_line(error: &clap::Error) -> String {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return "--help and --version do not go here".to_owned();
        }
        _ => {}
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use target::TargetKind;
    use types::NicNetwork;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn parsed(text: &str) -> Result<Conversion, String> {
        parse(&words(&text.split_whitespace().collect::<Vec<_>>()))
    }

    fn local(conversion: &Conversion) -> &str {
        match &conversion.target.kind {
            TargetKind::Local { dir, .. } => dir.to_str().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_job_s_words_go_over_the_server_s() {
        let conversion = parsed("-o local -os /a -of raw -on x  -os /b -of qcow2 -on y").unwrap();
        assert_eq!(local(&conversion), "/b");
        assert_eq!(conversion.name.as_deref(), Some("y"));
        assert_eq!(conversion.target.format.to_string(), "qcow2");
    }

    #[test]
    fn another_output_mode_leaves_the_old_place_behind() {
        for text in [
            "-o libvirt -os pool -oc qemu:///system -o local -os /x",
            "-o libvirt -os pool -oc qemu:///system -os /x -o local",
            "-os pool -o libvirt -os /x -o local",
            "-o qemu -os /q -oo qemu-boot -o local -os /x",
        ] {
            assert_eq!(
                local(&parsed(text).unwrap_or_else(|e| panic!("{text}: {e}"))),
                "/x"
            );
        }
        let null = parsed("-o local -os /x -o null").unwrap();
        assert!(matches!(null.target.kind, TargetKind::Null));
        assert!(
            parsed("-o libvirt -os pool -o local")
                .unwrap_err()
                .contains("-os DIR")
        );
        // The same mode again keeps the place.
        assert_eq!(
            local(&parsed("-o local -os /x -o local -of raw").unwrap()),
            "/x"
        );
    }

    #[test]
    fn later_networks_replace_earlier_ones() {
        let conversion = parsed(
            "-o null -n default -b a:br1 --mac 52:54:00:00:00:0A:network:x \
             --mac 52:54:00:00:00:0a:ip:192.0.2.1 -b br0 -n a:lan --mac 52:54:00:00:00:0a:bridge:br9",
        )
        .unwrap();
        let rules = &conversion.networks;
        assert_eq!(rules.default, Some(NicNetwork::Bridge("br0".into())));
        assert_eq!(
            rules.by_name,
            [("a".into(), NicNetwork::Network("lan".into()))]
        );
        assert_eq!(rules.by_mac.len(), 1);
        assert_eq!(rules.by_mac[0].network, NicNetwork::Bridge("br9".into()));
        assert_eq!(conversion.static_ips.len(), 1);
    }

    #[test]
    fn sources_keys_and_talk_are_refused_by_name() {
        for (text, word) in [
            ("-i ova", "-i "),
            ("-if raw", "-if"),
            ("-ic qemu:///x", "-ic"),
            ("-io a=b", "-io"),
            ("-it ssh", "-it"),
            ("-ip f", "-ip"),
            ("--vm x", "--vm"),
            ("--base-dir /", "--base-dir"),
            ("disk.img", "disk.img"),
            ("-- disk.img", "disk.img"),
            ("--print-source", "--print-source"),
            ("--machine-readable", "--machine-readable"),
            ("-q", "-q"),
            ("-x", "-x"),
            ("--help", "--help"),
            ("-o nowhere", "nowhere"),
            ("--no-such", "--no-such"),
            ("-o null --root ask", "--root ask"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(
                error.contains(word) && !error.contains('\n'),
                "{text}: {error}"
            );
        }
        for text in [
            "--key all:key:hunter2",
            "--root-password password:hunter2",
            "--password kim:password:hunter2",
            "--upload /etc/shadow:/x",
            "--ssh-inject root",
            "--qemu-ga /x.deb",
        ] {
            let error = parsed(&format!("-o null {text}")).unwrap_err();
            let option = text.split(' ').next().unwrap();
            assert!(
                error.contains(option) && !error.contains("hunter2"),
                "{error}"
            );
        }
        let conversion = parsed("-o null --force-hibernated --virtio-win=/").unwrap();
        assert!(conversion.force_hibernated && conversion.virtio_win == Some("/".into()));
        let error = parsed("-o null --virtio-win=/no/such").unwrap_err();
        assert!(error.contains("--virtio-win /no/such"), "{error}");
        let conversion = parsed("-o null --hostname=a --touch=/b --hostname=c").unwrap();
        assert_eq!(conversion.customise.len(), 3);
    }
}
