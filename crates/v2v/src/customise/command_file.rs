//! `--commands-from-file`: options without their dashes, one a line; a backslash at the end joins the next line.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Given, OPTIONS};

/// Largest file of commands.
const MAX: u64 = 4 << 20;

pub(super) fn read(file: &str) -> Result<Vec<Given>> {
    parse(&super::options::text_file(Path::new(file), MAX)?)
}

fn parse(text: &str) -> Result<Vec<Given>> {
    let mut given = Vec::new();
    let mut command = String::new();
    let mut began = 0;
    for (number, line) in (1..).zip(text.lines()) {
        if command.is_empty() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            began = number;
        }
        if let Some(line) = line.strip_suffix('\\') {
            command.push_str(if command.is_empty() {
                line
            } else {
                line.trim_start()
            });
            continue;
        }
        command.push_str(if command.is_empty() {
            line
        } else {
            line.trim_start()
        });
        given.push(one(&std::mem::take(&mut command)).with_context(|| format!("line {began}"))?);
    }
    if !command.is_empty() {
        bail!("line {began}: nothing follows the backslash");
    }
    Ok(given)
}

fn one(command: &str) -> Result<Given> {
    let command = command.trim();
    let (word, value) = command.split_once([' ', '\t']).unwrap_or((command, ""));
    // The word may be a password that stands where it should not: it is not repeated unless it looks like an option.
    let Some((option, ..)) = OPTIONS.iter().find(|(name, ..)| *name == word) else {
        let plain = word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        bail!(
            "expected one of the customisation options without its dashes, found {}",
            if plain { word } else { "something else" }
        );
    };
    if *option == "commands-from-file" {
        bail!("{option} does not go into a file of commands");
    }
    let value = value.trim_start().to_owned();
    if value.is_empty() {
        bail!("{option} needs a value");
    }
    Ok(Given { option, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_comments_and_joined_lines_are_read() {
        let text = "# first\n\nhostname db1\n  edit /etc/x:\\\n    s/a/b/\nwrite /etc/y:a  b \n";
        let given = parse(text).unwrap();
        let found: Vec<_> = given.iter().map(|g| (g.option, g.value.as_str())).collect();
        assert_eq!(
            found,
            [
                ("hostname", "db1"),
                ("edit", "/etc/x:s/a/b/"),
                ("write", "/etc/y:a  b")
            ]
        );
    }

    #[test]
    fn wrong_lines_are_named_by_number() {
        for (text, word) in [
            ("hostname", "line 1: hostname needs a value"),
            ("\nnonsense x", "line 2: expected one of"),
            ("password:Secret1 x", "found something else"),
            ("commands-from-file x", "does not go into"),
            ("edit /x:\\\n", "nothing follows"),
        ] {
            let error = format!("{:#}", parse(text).err().unwrap());
            assert!(
                error.contains(word) && !error.contains("Secret1"),
                "{error}"
            );
        }
    }
}
