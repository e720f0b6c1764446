//! Options in v2v's words, laid over each other: the server's, the machine's, the approval's.
//!
//! A later option takes the place of an earlier one of the same name; options that may be repeated add up. Nothing is
//! understood here beyond that: whether the result makes sense is for the program's own parser to say.

use std::collections::BTreeSet;

/// Options that take a value, once.
const SINGLE: &[&str] = &[
    "base-dir",
    "i",
    "ic",
    "if",
    "ip",
    "it",
    "memsize",
    "o",
    "oa",
    "oc",
    "of",
    "on",
    "os",
    "parallel",
    "report",
    "root",
    "smp",
    "virtio-win",
    "vm",
];
/// Options that take a value and may be repeated.
const REPEATED: &[&str] = &[
    "append-line",
    "bridge",
    "chmod",
    "commands-from-file",
    "copy-in",
    "delete",
    "edit",
    "firstboot",
    "firstboot-command",
    "hostname",
    "io",
    "key",
    "link",
    "mac",
    "mkdir",
    "network",
    "oo",
    "password",
    "root-password",
    "run",
    "run-command",
    "ssh-inject",
    "timezone",
    "touch",
    "upload",
    "write",
];
/// Options whose value, if any, is behind an equals sign.
const OPTIONAL: &[&str] = &["machine-readable", "no-fstrim"];
/// Second spellings.
const ALIASES: &[(&str, &str)] = &[("n", "network"), ("b", "bridge")];
/// Output options that belong to one output mode.
const OF_A_MODE: &[&str] = &["oc", "oo"];
/// Characters of `AA:BB:CC:DD:EE:FF`.
const MAC_LEN: usize = 17;

/// One option.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Opt {
    /// Without dashes; a word that is no known option is whole, dashes included.
    name: String,
    value: Option<String>,
    /// It is a word that was not understood.
    raw: bool,
}

impl std::fmt::Debug for Opt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown().join(" "))
    }
}

impl Opt {
    /// An option with a value.
    pub(crate) fn new(name: &str, value: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: Some(value.into()),
            raw: false,
        }
    }

    /// Its value holds a passphrase or a password.
    pub(crate) fn is_secret(&self) -> bool {
        if matches!(self.name.as_str(), "password" | "root-password") {
            return true;
        }
        // Cut as the command line does: what has `:key:` in it, or neither word, is taken for a secret.
        self.name == "key"
            && self
                .value
                .as_deref()
                .is_none_or(|value| value.contains(":key:") || !value.contains(":file:"))
    }

    fn words(&self) -> Vec<String> {
        match &self.value {
            _ if self.raw => vec![self.name.clone()],
            Some(value) if self.name.len() == 1 => vec![format!("-{}", self.name), value.clone()],
            Some(value) => vec![format!("--{}={value}", self.name)],
            None if self.name.len() == 1 => vec![format!("-{}", self.name)],
            None => vec![format!("--{}", self.name)],
        }
    }

    fn shown(&self) -> Vec<String> {
        if self.is_secret() && self.name != "key" {
            return vec![format!("--{}=…", self.name)];
        }
        if self.is_secret() {
            let value = self.value.as_deref().unwrap_or_default();
            let id = value.split_once(":key:").map_or("", |(id, _)| id);
            return vec![format!("--key={id}:key:…")];
        }
        self.words()
    }

    /// Options with the same slot exclude each other.
    fn slot(&self) -> Option<String> {
        if self.raw {
            return None;
        }
        let value = self.value.as_deref().unwrap_or_default();
        match self.name.as_str() {
            "network" | "bridge" => match value.split_once(':') {
                Some((from, _)) => Some(format!("network {from}")),
                None => Some("network".to_owned()),
            },
            "mac" => {
                let (mac, rule) = value.split_at_checked(MAC_LEN)?;
                let connects = rule.starts_with(":network:") || rule.starts_with(":bridge:");
                connects.then(|| format!("mac {}", mac.to_ascii_lowercase()))
            }
            name if REPEATED.contains(&name) => None,
            name => Some(name.to_owned()),
        }
    }
}

/// Takes words apart into options.
pub(crate) fn parse(words: &[String]) -> Vec<Opt> {
    let mut options = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        options.push(parse_one(word, || words.next().cloned()));
    }
    options
}

fn parse_one(word: &str, mut next: impl FnMut() -> Option<String>) -> Opt {
    let raw = || Opt {
        name: word.to_owned(),
        value: None,
        raw: true,
    };
    let (long, body) = match (word.strip_prefix("--"), word.strip_prefix('-')) {
        (Some(body), _) => (true, body),
        (None, Some(body)) => (false, body),
        (None, None) => return raw(),
    };
    let (written, attached) = match body.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (body, None),
    };
    let name = ALIASES
        .iter()
        .find(|(alias, _)| *alias == written)
        .map_or(written, |(_, name)| name);
    let valued = |name: &str| SINGLE.contains(&name) || REPEATED.contains(&name);
    if valued(name) {
        return match attached.or_else(&mut next) {
            Some(value) => Opt::new(name, value),
            None => raw(),
        };
    }
    if OPTIONAL.contains(&name) || (long && !name.is_empty()) {
        return Opt {
            name: name.to_owned(),
            value: attached,
            raw: false,
        };
    }
    // -olocal
    let mut letters = body.chars();
    match letters.next().map(String::from) {
        Some(letter) if !letters.as_str().is_empty() => {
            let name = ALIASES
                .iter()
                .find(|(alias, _)| *alias == letter)
                .map_or(letter.as_str(), |(_, name)| name);
            if valued(name) {
                Opt::new(name, letters.as_str())
            } else {
                raw()
            }
        }
        _ => raw(),
    }
}

/// Lays the layers over each other, the first lowest.
pub(crate) fn merge(layers: &[Vec<Opt>]) -> Vec<Opt> {
    let mut merged: Vec<Opt> = Vec::new();
    for layer in layers {
        let mode = |options: &[Opt]| {
            let found = options.iter().rev().find(|option| option.name == "o");
            found.and_then(|option| option.value.clone())
        };
        if let Some(new) = mode(layer)
            && mode(&merged).is_some_and(|old| old != new)
        {
            // What was said for another output mode means nothing to this one; null has no place either.
            merged.retain(|option| {
                !(OF_A_MODE.contains(&option.name.as_str()) || new == "null" && option.name == "os")
            });
        }
        let slots: BTreeSet<_> = layer.iter().filter_map(Opt::slot).collect();
        merged.retain(|option| option.slot().is_none_or(|slot| !slots.contains(&slot)));
        for (place, option) in layer.iter().enumerate() {
            // Within a layer the last one counts as well.
            let slot = option.slot();
            let again = layer[place + 1..]
                .iter()
                .any(|later| slot.is_some() && later.slot() == slot);
            if !again {
                merged.push(option.clone());
            }
        }
    }
    merged
}

/// As the program's parser takes them.
pub(crate) fn words(options: &[Opt]) -> Vec<String> {
    options.iter().flat_map(Opt::words).collect()
}

/// As people may see them: no secrets.
pub(crate) fn shown(options: &[Opt]) -> Vec<String> {
    options.iter().flat_map(Opt::shown).collect()
}

/// The value of an option that is given once.
pub(crate) fn value_of<'a>(options: &'a [Opt], name: &str) -> Option<&'a str> {
    let found = options.iter().rev().find(|option| option.name == name);
    found.and_then(|option| option.value.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Vec<Opt> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    fn merged(layers: &[&str]) -> String {
        let layers: Vec<_> = layers.iter().map(|text| layer(text)).collect();
        words(&merge(&layers)).join(" ")
    }

    #[test]
    fn every_spelling_is_one_option() {
        for text in ["-os /x", "-os=/x", "--os /x", "--os=/x"] {
            assert_eq!(merged(&[text]), "--os=/x", "{text}");
        }
        for text in ["-o local", "-olocal", "-o=local"] {
            assert_eq!(merged(&[text]), "-o local", "{text}");
        }
        assert_eq!(merged(&["-n net -b a:b"]), "--network=net --bridge=a:b");
        assert_eq!(merged(&["-vx --overwrite"]), "-vx --overwrite");
        assert_eq!(merged(&["--no-fstrim -on g"]), "--no-fstrim --on=g");
    }

    #[test]
    fn the_last_of_a_single_option_counts_and_repeated_ones_add_up() {
        assert_eq!(
            merged(&["-o local -os /a -of raw", "-os /b", "--os /c -os /d"]),
            "-o local --of=raw --os=/d"
        );
        assert_eq!(
            merged(&["--key a:file:/k -oo x -n n1", "--key b:file:/l -n n2 -oo y"]),
            "--key=a:file:/k --oo=x --key=b:file:/l --network=n2 --oo=y"
        );
        assert_eq!(
            merged(&[
                "--mac 00:50:56:AA:00:01:network:a --mac 00:50:56:aa:00:01:ip:192.0.2.1",
                "--mac 00:50:56:aa:00:01:bridge:b"
            ]),
            "--mac=00:50:56:aa:00:01:ip:192.0.2.1 --mac=00:50:56:aa:00:01:bridge:b"
        );
    }

    #[test]
    fn drivers_and_flags_of_windows_are_options_like_others() {
        assert_eq!(
            merged(&[
                "--virtio-win /a --force-hibernated",
                "--virtio-win=/b -on x"
            ]),
            "--force-hibernated --virtio-win=/b --on=x"
        );
    }

    #[test]
    fn another_output_mode_takes_away_what_was_for_the_first() {
        assert_eq!(merged(&["-o local -os /a", "-o null"]), "-o null");
        assert_eq!(
            merged(&["-o qemu -oo qemu-boot -os /a", "-o local"]),
            "--os=/a -o local"
        );
        assert_eq!(
            merged(&["-o qemu -oo qemu-boot -os /a", "-o qemu"]),
            "--oo=qemu-boot --os=/a -o qemu"
        );
    }

    #[test]
    fn a_passphrase_is_never_shown() {
        for text in [
            "--key all:key:hunter2",
            "--key hunter2",
            "--key=x:key::file:hunter2",
        ] {
            let options = layer(text);
            assert!(options[0].is_secret());
            assert!(!shown(&options).join(" ").contains("hunter2"), "{text}");
            assert!(!format!("{options:?}").contains("hunter2"), "{text}");
        }
        assert!(!layer("--key all:file:/k")[0].is_secret());
    }

    #[test]
    fn a_value_of_a_machine_cannot_become_an_option() {
        let wish = vec![Opt::new("os", "--overwrite"), Opt::new("on", "-x")];
        assert_eq!(words(&wish), ["--os=--overwrite", "--on=-x"]);
    }
}
