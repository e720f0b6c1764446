//! What is on a device, by `blkid -p -o export` (util-linux): the same probing by which udev in the guest makes
//! /dev/disk/by-uuid, by-label and by-partuuid.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::tool::{Outcome, Tool};

/// blkid's answer for one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probe {
    /// `TYPE`.
    pub(super) content: String,
    /// `UUID`.
    pub(super) uuid: Option<String>,
    /// `UUID_SUB`: of one device of a file system on several.
    pub(super) uuid_sub: Option<String>,
    /// `LABEL`.
    pub(super) label: Option<String>,
    /// `PTTYPE`: `gpt`, `dos`, or empty.
    pub(super) table: String,
    /// `PART_ENTRY_UUID`.
    pub(super) partuuid: Option<String>,
    /// `PART_ENTRY_NAME`.
    pub(super) partlabel: Option<String>,
    /// `PART_ENTRY_TYPE`.
    pub(super) parttype: Option<String>,
    /// `PART_ENTRY_OFFSET` in units of 512 bytes and `PART_ENTRY_NUMBER`, to be compared with the kernel's.
    pub(super) entry: Option<(u64, u64)>,
}

/// Probes devices by their kernel names; one that holds nothing known is not in the result.
pub(super) fn probe<'a>(
    knames: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, Probe>> {
    let nodes: Vec<String> = knames
        .into_iter()
        .map(|kname| format!("/dev/{kname}"))
        .collect();
    if nodes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let outcome = run(&nodes)?;
    if outcome.code() == Some(0) || nodes.len() == 1 {
        return Ok(parse(&outcome.stdout));
    }
    // A device on which it finds nothing (2), or more than one thing (8), ends it: those after it are not looked at, and
    // what was found before is not printed. So each is asked about by itself.
    let mut all = BTreeMap::new();
    for node in &nodes {
        all.append(&mut parse(&run(std::slice::from_ref(node))?.stdout));
    }
    Ok(all)
}

fn run(nodes: &[String]) -> Result<Outcome> {
    Tool::new("/usr/sbin/blkid")
        .args(["-p", "-o", "export"])
        .args(nodes)
        .run()
}

/// One stanza of NAME=VALUE lines a device, by kernel name.
fn parse(text: &str) -> BTreeMap<String, Probe> {
    let mut all = BTreeMap::new();
    for stanza in text.split("\n\n") {
        let fields: BTreeMap<&str, String> = stanza
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name, unescape(value)))
            .collect();
        let field = |name: &str| fields.get(name).filter(|value| !value.is_empty()).cloned();
        let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok());
        let Some(kname) =
            field("DEVNAME").and_then(|node| node.strip_prefix("/dev/").map(str::to_owned))
        else {
            continue;
        };
        let probe = Probe {
            content: field("TYPE").unwrap_or_default(),
            uuid: field("UUID"),
            uuid_sub: field("UUID_SUB"),
            label: field("LABEL"),
            table: field("PTTYPE").unwrap_or_default(),
            partuuid: field("PART_ENTRY_UUID"),
            partlabel: field("PART_ENTRY_NAME"),
            parttype: field("PART_ENTRY_TYPE"),
            entry: number("PART_ENTRY_OFFSET").zip(number("PART_ENTRY_NUMBER")),
        };
        all.insert(kname, probe);
    }
    all
}

/// blkid writes a backslash before characters that mean something to a shell, and `\xHH` for bytes that do not print.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'x') => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok());
                bytes.push(hex.unwrap_or(b'?'));
            }
            other => bytes.extend(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_become_devices() {
        let text = "DEVNAME=/dev/vda\nPTUUID=1234abcd\nPTTYPE=dos\n\n\
            DEVNAME=/dev/vda1\nLABEL=my\\ \\$root\nUUID=u-1\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\n\
            PART_ENTRY_SCHEME=dos\nPART_ENTRY_UUID=1234abcd-01\nPART_ENTRY_TYPE=0x83\nPART_ENTRY_FLAGS=0x80\n\
            PART_ENTRY_NUMBER=1\nPART_ENTRY_OFFSET=2048\nPART_ENTRY_SIZE=4096\nPART_ENTRY_DISK=254:0\n";
        let all = parse(text);
        assert_eq!(
            all["vda"],
            Probe {
                table: "dos".into(),
                ..Probe::default()
            }
        );
        let part = &all["vda1"];
        assert_eq!(
            (part.content.as_str(), part.label.as_deref()),
            ("ext4", Some("my $root"))
        );
        assert_eq!(part.partuuid.as_deref(), Some("1234abcd-01"));
        assert_eq!(
            (part.parttype.as_deref(), part.entry),
            (Some("0x83"), Some((2048, 1)))
        );
    }

    #[test]
    fn escapes_are_undone_even_broken_ones() {
        assert_eq!(unescape("EFI\\ System\\ Partition"), "EFI System Partition");
        assert_eq!(unescape("a\\x0ab\\\\c"), "a\nb\\c");
        assert_eq!(unescape("\\xzz\\"), "?");
    }
}
