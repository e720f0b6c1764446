//! Registries compared: before and after a conversion, and with what virt-v2v 2.2 changed of the same machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use registry::{Hive, Kind, Logs, Value};

/// Key and name of value (`None` is the key itself), with the value as text.
pub(crate) type Values = BTreeMap<(String, Option<String>), String>;

/// All keys and values of a hive, which must verify.
pub(crate) fn values(bytes: &[u8]) -> Values {
    let hive = Hive::recover(bytes.to_vec(), &Logs::default())
        .unwrap()
        .hive;
    hive.verify().unwrap();
    let mut values = Values::new();
    let mut left = vec![String::new()];
    while let Some(key) = left.pop() {
        values.insert((key.clone(), None), String::new());
        for (name, value) in hive.values(&key).unwrap() {
            let shown = shown(&name, &value);
            values.insert((key.clone(), Some(name)), shown);
        }
        for below in hive.keys(&key).unwrap() {
            left.push(if key.is_empty() {
                below
            } else {
                format!("{key}\\{below}")
            });
        }
    }
    values
}

/// A value for people; the time of the conversion is none to compare.
fn shown(name: &str, value: &Value) -> String {
    if ["ImportDate", "UpdateDate"].contains(&name) {
        return format!("now ({} bytes)", value.data.len());
    }
    match value.kind {
        Kind::SZ => format!("{:?}", value.as_text().unwrap()),
        Kind::EXPAND_SZ => format!("expand:{:?}", value.as_text().unwrap()),
        Kind::MULTI_SZ => format!("multi:{:?}", value.as_multi().unwrap()),
        Kind::DWORD if value.as_u32().is_some() => format!("dword:{:08x}", value.as_u32().unwrap()),
        kind => {
            let bytes: Vec<String> = value
                .data
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("hex({:x}):{}", kind.0, bytes.join(","))
        }
    }
}

/// As a .reg file would say it, with `+` and `-`.
pub(crate) fn diff(before: &Values, after: &Values) -> String {
    let mut text = String::new();
    let mut keys: Vec<&(String, Option<String>)> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut last = None;
    for key in keys {
        let (old, new) = (before.get(key), after.get(key));
        if old == new {
            continue;
        }
        let sign = match (old, new) {
            (None, _) if key.1.is_none() => "+",
            (_, None) if key.1.is_none() => "-",
            _ => " ",
        };
        if last != Some(&key.0) {
            writeln!(text, "{sign}[{}]", key.0).unwrap();
            last = Some(&key.0);
        }
        let Some(name) = &key.1 else { continue };
        for (sign, value) in [("-", old), ("+", new)] {
            if let Some(value) = value {
                writeln!(text, "{sign}\"{name}\"={value}").unwrap();
            }
        }
    }
    text
}

/// Keys and values by lower-case path, as they are set.
pub(crate) type Set = BTreeMap<String, String>;

/// What virt-v2v set. Its differences have no context: a value whose key is above the hunk is `?\NAME`.
pub(crate) fn theirs(text: &str) -> Set {
    let mut set = Set::new();
    let mut key = "?".to_owned();
    for line in text.lines() {
        if line.starts_with("@@") {
            "?".clone_into(&mut key);
        } else if let Some(line) = line
            .strip_prefix('+')
            .filter(|line| !line.starts_with("++"))
        {
            if let Some(own) = line
                .strip_prefix("[HKLM\\")
                .and_then(|path| path.split_once('\\'))
                .map(|(_, below)| below)
            {
                own.trim_end_matches(']')
                    .to_lowercase()
                    .clone_into(&mut key);
                set.insert(key.clone(), String::new());
            } else if let Some((name, value)) = line.split_once('=') {
                let name = name.trim_matches('"').replace('@', "").to_lowercase();
                set.insert(format!("{key}\\{name}"), decoded(value));
            }
        }
    }
    set
}

/// hivexregedit writes texts as hexadecimal.
fn decoded(value: &str) -> String {
    let Some((kind, hex)) = value
        .strip_prefix("hex(")
        .and_then(|rest| rest.split_once("):"))
    else {
        return value.to_owned();
    };
    let bytes: Vec<u8> = hex
        .split(',')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let units: Vec<u16> = bytes
        .chunks(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[pair.len() - 1]]))
        .collect();
    let text = String::from_utf16_lossy(&units);
    let texts: Vec<&str> = text.split('\0').filter(|text| !text.is_empty()).collect();
    match kind {
        "1" => format!("{:?}", texts.concat()),
        "2" => format!("expand:{:?}", texts.concat()),
        "7" => format!("multi:{texts:?}"),
        _ => value.to_owned(),
    }
}

/// What we set or removed.
pub(crate) fn ours(before: &Values, after: &Values) -> Set {
    let path = |(key, name): &(String, Option<String>)| match name {
        Some(name) => format!("{key}\\{name}").to_lowercase(),
        None => key.to_lowercase(),
    };
    let set = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value))
        .map(|(key, value)| (path(key), value.clone()));
    let removed = before
        .keys()
        .filter(|key| !after.contains_key(*key))
        .map(|key| (path(key), "(removed)".to_owned()));
    set.chain(removed).collect()
}

/// Beginnings of paths, each with the reason for the difference.
pub(crate) type Reasons = [(&'static str, &'static str)];

/// Every path of one side that the other has not, or has with another value, must have a reason; every reason a path.
fn explain(side: &str, paths: &BTreeSet<String>, reasons: &Reasons) {
    let mut unexplained: Vec<&String> = Vec::new();
    let mut used = BTreeSet::new();
    for path in paths {
        match reasons
            .iter()
            .find(|(start, _)| path.starts_with(&start.to_lowercase()))
        {
            Some((start, _)) => {
                used.insert(*start);
            }
            None => unexplained.push(path),
        }
    }
    assert!(
        unexplained.is_empty(),
        "{side} without a reason: {unexplained:#?}"
    );
    let idle: Vec<&str> = reasons
        .iter()
        .map(|(start, _)| *start)
        .filter(|start| !used.contains(start))
        .collect();
    assert!(idle.is_empty(), "{side}: reasons for nothing: {idle:#?}");
}

pub(crate) fn compare(theirs: &Set, ours: &Set, only_theirs: &Reasons, only_ours: &Reasons) {
    let missing = |from: &Set, of: &Set| -> BTreeSet<String> {
        of.iter()
            .filter(|(path, value)| from.get(*path) != Some(value))
            .map(|(path, _)| path.clone())
            .collect()
    };
    explain("virt-v2v's", &missing(ours, theirs), only_theirs);
    explain("ours", &missing(theirs, ours), only_ours);
}
