//! Turns virt-v2v's option spelling into clap's: `-os DIR` and `-os=DIR` into `--os DIR`, before clap sees them.
//!
//! virt-v2v parses with getopt's long-only rule: a word behind a single dash is a long option if one has that name.
//! One-letter options keep their single dash; a cluster such as `-vx` is left for clap.

use std::ffi::{OsStr, OsString};

use clap::{ArgAction, Command};

/// Rewrites `args` (without the program name) by the options that `command` knows.
pub(crate) fn normalise(
    command: &Command,
    args: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.push(arg);
            out.extend(args);
            break;
        }
        let rewritten = long_form(command, &arg).unwrap_or(arg);
        let takes_next = takes_separate_value(command, &rewritten);
        out.push(rewritten);
        if takes_next && let Some(value) = args.next() {
            // A value is never an option, even when it begins with a dash.
            let joined = out.pop().map(|mut option| {
                if option.to_string_lossy().starts_with("--") {
                    option.push("=");
                }
                option.push(&value);
                option
            });
            out.extend(joined);
        }
    }
    out
}

fn long_form(command: &Command, arg: &OsStr) -> Option<OsString> {
    let text = arg.to_str()?;
    let word = text
        .strip_prefix('-')
        .filter(|word| !word.starts_with('-'))?;
    let name = word.split('=').next().unwrap_or(word);
    if name.chars().count() < 2 {
        return None;
    }
    command
        .get_arguments()
        .any(|known| has_long(known, name))
        .then(|| format!("--{word}").into())
}

fn takes_separate_value(command: &Command, arg: &OsStr) -> bool {
    let Some(text) = arg.to_str() else {
        return false;
    };
    let found = if let Some(name) = text.strip_prefix("--") {
        if name.contains('=') {
            return false;
        }
        command.get_arguments().find(|known| has_long(known, name))
    } else if let Some(letter) = text
        .strip_prefix('-')
        .filter(|rest| rest.chars().count() == 1)
    {
        command.get_arguments().find(|known| {
            known
                .get_short()
                .is_some_and(|short| letter.starts_with(short))
        })
    } else {
        None
    };
    found.is_some_and(|known| {
        matches!(known.get_action(), ArgAction::Set | ArgAction::Append)
            && known
                .get_num_args()
                .is_none_or(|count| count.min_values() > 0)
    })
}

fn has_long(known: &clap::Arg, name: &str) -> bool {
    known.get_long() == Some(name)
        || known
            .get_all_aliases()
            .is_some_and(|aliases| aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn normalised(args: &[&str]) -> Vec<String> {
        let mut command = Cli::command();
        command.build();
        normalise(&command, args.iter().map(OsString::from))
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect()
    }

    #[test]
    fn single_dash_words_become_long_options_with_their_value() {
        assert_eq!(
            normalised(&[
                "-i",
                "ova",
                "f.ova",
                "-os",
                "/d",
                "-of=qcow2",
                "-o",
                "local"
            ]),
            ["-iova", "f.ova", "--os=/d", "--of=qcow2", "-olocal"]
        );
    }

    #[test]
    fn a_value_that_begins_with_a_dash_stays_a_value() {
        assert_eq!(normalised(&["-on", "-os", "x"]), ["--on=-os", "x"]);
    }

    #[test]
    fn clusters_and_what_follows_two_dashes_are_left_alone() {
        assert_eq!(normalised(&["-vx", "--", "-os"]), ["-vx", "--", "-os"]);
    }
}
