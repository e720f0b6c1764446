//! Words of the kernel command line: how they are cut, and what each that begins with `p2v.` means.
//!
//! The words of virt-p2v are taken in both spellings (`p2v.server` and `p2v.remote.server`). Those that have no meaning
//! here because there is no ssh are answered by a line that says what to use instead. Nothing here fails: a word that
//! is not understood becomes a line of [`Config::problems`].

use std::fmt::Display;
use std::str::FromStr;

use wire::join::Secret;

use super::network::NetworkWords;
use super::{Config, NetworkMap, Post};

/// Linux' COMMAND_LINE_SIZE is 2048 on x86 and less than this everywhere.
const MAX_COMMAND_LINE: usize = 64 << 10;
/// A bare number below this many is taken as MiB, above as bytes.
const MEMORY_BARE_MIB_BELOW: u64 = 1 << 20;
/// More virtual CPUs than any hypervisor gives.
const MAX_VCPUS: u32 = 4096;

/// Cuts a kernel command line into its words as the kernel does: at white space outside of double quotes; the quotes
/// around a whole word or around the value behind `=` are dropped, others stay.
pub fn split_command_line(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let end = text.floor_char_boundary(MAX_COMMAND_LINE);
    for c in text.get(..end).unwrap_or_default().chars() {
        if c == '"' {
            quoted = !quoted;
        }
        if c.is_whitespace() && !quoted {
            words.push(std::mem::take(&mut word));
        } else {
            word.push(c);
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words.iter().map(|word| without_quotes(word)).collect()
}

fn without_quotes(word: &str) -> String {
    if let Some(inner) = word.strip_prefix('"') {
        return inner.strip_suffix('"').unwrap_or(inner).to_owned();
    }
    match word.split_once("=\"") {
        Some((key, value)) if !key.contains(['=', '"']) => {
            format!("{key}={}", value.strip_suffix('"').unwrap_or(value))
        }
        _ => word.to_owned(),
    }
}

impl Config {
    /// Reads a kernel command line.
    pub fn parse(command_line: &str) -> Self {
        Self::from_words(split_command_line(command_line))
    }

    /// Reads words that are cut already; of a word that is there twice the last counts.
    pub fn from_words(words: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut reader = Reader::default();
        for word in words {
            reader.word(word.as_ref());
        }
        reader.finish()
    }
}

#[derive(Default)]
struct Reader {
    config: Config,
    network: NetworkWords,
    port: Option<u16>,
    auto: Option<bool>,
    post: Option<Post>,
}

impl Reader {
    fn word(&mut self, word: &str) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        match key {
            "ip" | "nameserver" | "vlan" | "bond" => {
                let value = value.unwrap_or_default();
                if let Err(problem) = self.network.word(key, value) {
                    self.problem(word, &problem);
                }
            }
            _ => {
                // In names of parameters the kernel takes a dash for an underscore.
                let name = key.replace('-', "_");
                if let Some(name) = name.strip_prefix("p2v.")
                    && let Err(problem) = self.p2v(name, value)
                {
                    // The value may be a secret; it is not repeated.
                    self.problem(key, &problem);
                }
            }
        }
    }

    fn problem(&mut self, word: &str, what: &dyn Display) {
        self.config.problems.push(format!("{word}: {what}"));
    }

    fn p2v(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        let config = &mut self.config;
        match name {
            "join" => config.join = Some(parsed(value)?),
            "server" | "remote.server" => config.server = Some(text(value)?),
            "port" | "remote.port" => self.port = Some(parsed(value)?),
            "fingerprint" => config.fingerprint = Some(parsed(value)?),
            "code" => {
                config.code = Some(Secret::from_code(&text(value)?).map_err(|e| e.to_string())?);
            }
            "name" | "guestname" => config.name = Some(text(value)?),
            "auto" => self.auto = Some(flag(value)?),
            "resync" => config.resync = flag(value)?,
            "skip_test_connection" => config.skip_test_connection = flag(value)?,
            "dump_config_and_exit" => config.dump_config_and_exit = flag(value)?,
            "post" => self.post = Some(post(value)?),
            "fail" => config.fail = post(value)?,
            _ => return self.guest(name, value),
        }
        Ok(())
    }

    /// What is sent and how the guest will look.
    fn guest(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        let config = &mut self.config;
        match name {
            "disks" => config.disks = Some(some_of(value)?),
            "removable" => config.removables = Some(list(value)),
            "interfaces" => config.interfaces = Some(list(value)),
            "network" | "network_map" => config.networks = network_map(&text(value)?)?,
            "memory" => config.memory_bytes = Some(memory(&text(value)?)?),
            "vcpu.cores" => {
                config.vcpus = Some(parsed(value).and_then(|count: u32| {
                    if (1..=MAX_VCPUS).contains(&count) {
                        Ok(count)
                    } else {
                        Err(format!("expected 1 to {MAX_VCPUS}, found {count}"))
                    }
                })?);
            }
            "vcpu.phys_topo" => config.physical_topology = flag(value)?,
            "cpu.vendor" => config.cpu.vendor = Some(text(value)?),
            "cpu.model" => config.cpu.model = Some(text(value)?),
            "cpu.acpi" => config.cpu.acpi = Some(flag(value)?),
            "cpu.apic" => config.cpu.apic = Some(flag(value)?),
            "cpu.pae" => config.cpu.pae = Some(flag(value)?),
            "rtc.basis" => match value {
                Some(basis @ ("utc" | "localtime")) => config.rtc.basis = Some(basis.to_owned()),
                _ => return Err("expected utc or localtime".to_owned()),
            },
            "rtc.offset" => config.rtc.offset_seconds = Some(parsed(value)?),
            _ => return self.output(name, value),
        }
        Ok(())
    }

    fn output(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        let option = match name {
            "o" | "output.type" => "o",
            "os" | "output.storage" => "os",
            "of" | "output.format" => "of",
            "oc" | "output.connection" => "oc",
            "oa" | "output.allocation" => "oa",
            "on" | "output.name" => "on",
            "oo" | "output.misc" => "oo",
            _ => return Err(instead(name).to_owned()),
        };
        let value = text(value)?;
        let output = &mut self.config.output;
        if option != "oo" {
            output.retain(|(name, _)| name != option);
        }
        output.push((option.to_owned(), value));
        Ok(())
    }

    fn finish(mut self) -> Config {
        let mut config = self.config;
        let (network, problems) = std::mem::take(&mut self.network).finish();
        config.network = network;
        config.problems.extend(problems);
        match (&mut config.server, self.port) {
            (Some(server), Some(port)) => *server = super::target::with_port(server, port),
            (None, Some(_)) => config
                .problems
                .push("p2v.port: there is no p2v.server".to_owned()),
            _ => {}
        }
        let complete = config.target().is_ok();
        config.unattended = self.auto.unwrap_or(complete);
        // As virt-p2v has it: a machine that nobody attends is off when it has arrived, so that it cannot run twice.
        let post = match config.unattended {
            true => Post::Poweroff,
            false => Post::Stay,
        };
        config.post = self.post.unwrap_or(post);
        if config.unattended && !complete {
            config.problems.push(
                "p2v.auto: nobody can be reached without p2v.join= (or p2v.server=, p2v.fingerprint= and p2v.code=)"
                    .to_owned(),
            );
        }
        config
    }
}

/// What to use for a word that means nothing here.
fn instead(name: &str) -> &'static str {
    match name {
        "username" | "auth.username" | "password" | "auth.password" | "identity"
        | "identity.url" | "auth.identity" | "auth.identity.url" | "auth.identity.file"
        | "sudo" | "auth.sudo" => {
            "there is no ssh and no account here: make a join string with `v2v token create` and give it as p2v.join="
        }
        "pre" => "commands are not run: nothing is needed before the start",
        _ => "not known",
    }
}

fn text(value: Option<&str>) -> Result<String, String> {
    match value {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err("a value is missing".to_owned()),
    }
}

fn parsed<T: FromStr>(value: Option<&str>) -> Result<T, String>
where
    T::Err: Display,
{
    text(value)?
        .parse()
        .map_err(|error: T::Err| error.to_string())
}

fn flag(value: Option<&str>) -> Result<bool, String> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("1" | "on" | "yes" | "true") => Ok(true),
        Some("0" | "off" | "no" | "false") => Ok(false),
        Some(other) => Err(format!("expected 1 or 0, found {other}")),
    }
}

fn list(value: Option<&str>) -> Vec<String> {
    let items = value.unwrap_or_default().split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn some_of(value: Option<&str>) -> Result<Vec<String>, String> {
    let items = list(value);
    if items.is_empty() {
        Err("expected a list such as sda,nvme0n1".to_owned())
    } else {
        Ok(items)
    }
}

/// `em1:wired,eth1:lab,other`.
fn network_map(value: &str) -> Result<Vec<NetworkMap>, String> {
    list(Some(value))
        .into_iter()
        .map(|item| match item.split_once(':') {
            Some((interface, network)) if !interface.is_empty() && !network.is_empty() => {
                Ok(NetworkMap {
                    interface: Some(interface.to_owned()),
                    network: network.to_owned(),
                })
            }
            Some(_) => Err(format!("expected INTERFACE:NETWORK, found {item}")),
            None => Ok(NetworkMap {
                interface: None,
                network: item,
            }),
        })
        .collect()
}

/// Bytes: `4G`, `512M`, `1048576K`, `1T`, with or without `B` or `iB`. virt-p2v wants M or G; a bare number is MiB, or
/// bytes where it is too large for that.
fn memory(value: &str) -> Result<u64, String> {
    let wrong = || format!("expected a size such as 4G or 512M, found {value}");
    let lower = value.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    let shift = match &lower[digits.len()..] {
        "" if number >= MEMORY_BARE_MIB_BELOW => 0,
        "" | "m" | "mb" | "mib" => 20,
        "b" => 0,
        "k" | "kb" | "kib" => 10,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(wrong)
}

/// virt-p2v takes a command here; of commands those are understood that power off or reboot.
fn post(value: Option<&str>) -> Result<Post, String> {
    let value = value.unwrap_or_default().trim();
    let last = value.split_whitespace().last().unwrap_or_default();
    match last.rsplit('/').next().unwrap_or_default() {
        "" | "wait" | "stay" | "none" => Ok(Post::Stay),
        "poweroff" | "halt" | "shutdown" => Ok(Post::Poweroff),
        "reboot" => Ok(Post::Reboot),
        "shell" | "sh" | "bash" => Ok(Post::Shell),
        _ => Err(format!(
            "commands are not run: expected poweroff, reboot, shell or wait, found {value}"
        )),
    }
}
