//! virt-customize's options (virt-customize(1)): their order on the command line is the order of the changes.
//!
//! ```text
//!   CustomiseArgs ── expand: command files, random passwords ──> CustomiseArgs ── read ──> changes + payload
//! ```
//!
//! Everything that can be known here is refused here, in one line that never repeats a password.

mod command_file;
mod options;
mod secrets;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use convert::PayloadFile;
use types::Customise;

/// Name of an option, of its value, and its help.
pub(crate) const OPTIONS: &[(&str, &str, &str)] = &[
    (
        "root-password",
        "SELECTOR",
        "Root's password: password:TEXT, file:FILE, random, disabled, locked[:…]",
    ),
    (
        "password",
        "USER:SELECTOR",
        "The password of another account",
    ),
    (
        "ssh-inject",
        "USER[:SELECTOR]",
        "Let USER log in by a key: file:FILE, string:KEY; yours if left out",
    ),
    ("hostname", "NAME", "Set the guest's host name"),
    ("timezone", "AREA/CITY", "Set the guest's time zone"),
    (
        "upload",
        "FILE:DEST",
        "Copy a file of this host into the guest",
    ),
    (
        "copy-in",
        "PATH:DIR",
        "Copy a file or folder of this host into a directory of the guest",
    ),
    ("write", "FILE:CONTENT", "Write a file in the guest"),
    (
        "append-line",
        "FILE:LINE",
        "Append a line to a file in the guest",
    ),
    (
        "edit",
        "FILE:EXPR",
        "Edit each line of a file by s/REGEX/REPLACEMENT/FLAGS, as in Perl",
    ),
    (
        "delete",
        "PATH",
        "Delete a file or directory of the guest; * and ? are wildcards",
    ),
    ("mkdir", "DIR", "Create a directory and those above it"),
    (
        "chmod",
        "MODE:FILE",
        "Change the permissions of a file; MODE is octal",
    ),
    ("touch", "FILE", "Create a file, or set its time to now"),
    (
        "link",
        "TARGET:LINK[:LINK...]",
        "Create symbolic links to TARGET",
    ),
    (
        "firstboot",
        "SCRIPT",
        "Run a script of this host at the guest's first boot",
    ),
    (
        "firstboot-command",
        "CMD",
        "Run a command at the guest's first boot",
    ),
    (
        "run",
        "SCRIPT",
        "Run a script of this host in the guest now (--allow-guest-code)",
    ),
    (
        "run-command",
        "CMD",
        "Run a command in the guest now (--allow-guest-code)",
    ),
    (
        "commands-from-file",
        "FILE",
        "Read such options from a file, one a line, without dashes",
    ),
];

/// Options as they were given, in order.
#[derive(Default)]
pub(crate) struct CustomiseArgs {
    given: Vec<Given>,
}

/// One option.
struct Given {
    option: &'static str,
    value: String,
}

/// A password that was made here, for the administrator.
pub(crate) struct Generated {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// What the options ask for.
#[derive(Debug, Default)]
pub(crate) struct Customisation {
    pub(crate) changes: Vec<Customise>,
    /// Files of this host that the changes name.
    pub(crate) payload: Vec<PayloadFile>,
}

// Values may be passwords.
impl std::fmt::Debug for CustomiseArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let options = self.given.iter().map(|given| given.option);
        f.debug_list().entries(options).finish()
    }
}

impl Args for CustomiseArgs {
    fn augment_args(command: Command) -> Command {
        command.args(OPTIONS.iter().map(|(name, value, help)| {
            Arg::new(*name)
                .long(*name)
                .value_name(*value)
                .help(*help)
                .help_heading("Customisation")
                .action(ArgAction::Append)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for CustomiseArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given: Vec<(usize, Given)> = Vec::new();
        for (option, ..) in OPTIONS {
            let values = matches.get_many::<String>(option).into_iter().flatten();
            let places = matches.indices_of(option).into_iter().flatten();
            for (place, value) in places.zip(values) {
                let value = value.clone();
                given.push((place, Given { option, value }));
            }
        }
        given.sort_by_key(|(place, _)| *place);
        Ok(Self {
            given: given.into_iter().map(|(_, given)| given).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl CustomiseArgs {
    /// The first option given.
    pub(crate) fn first(&self) -> Option<&'static str> {
        self.given.first().map(|given| given.option)
    }

    /// Puts in the options of command files, and draws the passwords that are to be random.
    pub(crate) fn expand(&mut self) -> Result<Vec<Generated>> {
        let mut expanded = Vec::new();
        for given in std::mem::take(&mut self.given) {
            if given.option == "commands-from-file" {
                let commands = command_file::read(&given.value)
                    .with_context(|| format!("--commands-from-file {}", given.value))?;
                expanded.extend(commands);
            } else {
                expanded.push(given);
            }
        }
        self.given = expanded;
        let mut generated = Vec::new();
        for given in &mut self.given {
            if let Some(drawn) = secrets::draw(given)? {
                generated.push(drawn);
            }
        }
        Ok(generated)
    }

    /// What is asked for.
    pub(crate) fn read(&self, allow_guest_code: bool) -> Result<Customisation> {
        let mut read = Customisation::default();
        for given in &self.given {
            options::read(given, &mut read)?;
            if given.option.starts_with("run") && !allow_guest_code {
                bail!(
                    "--{} runs programs of the guest: that needs --allow-guest-code (they run in the appliance, \
                     without a network)",
                    given.option
                );
            }
        }
        Ok(read)
    }

    /// The first option that a server cannot take for a job: what reads the server's files, and what would leave a
    /// password in the store of jobs.
    pub(crate) fn not_for_a_job(&self) -> Option<(&'static str, &'static str)> {
        self.given.iter().find_map(|given| {
            let why = match given.option {
                "root-password" | "password" => {
                    "options are stored with the job, passwords must not be"
                }
                "upload" | "copy-in" | "firstboot" | "run" | "commands-from-file" => {
                    "it reads a file of the server"
                }
                "ssh-inject" if !secrets::is_key_itself(&given.value) => {
                    "it reads a file of the server"
                }
                _ => return None,
            };
            Some((given.option, why))
        })
    }
}

#[cfg(test)]
mod tests;
