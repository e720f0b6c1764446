//! `[Section]`, `Key=value`: keyfiles of NetworkManager, files of systemd-networkd, and (without sections) ifcfg files.

use crate::linux::os_release::unquote;

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair<'t> {
    pub(super) section: &'t str,
    pub(super) key: &'t str,
    pub(super) value: String,
}

/// Every assignment in order.
pub(super) fn pairs(text: &str) -> Vec<Pair<'_>> {
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once('=')
            && !line.starts_with(['#', ';'])
        {
            found.push(Pair { section, key: key.trim(), value: unquote(value) });
        }
    }
    found
}

/// The last value of a key in a section.
pub(super) fn value(pairs: &[Pair<'_>], section: &str, key: &str) -> Option<String> {
    pairs.iter().rfind(|pair| pair.section == section && pair.key == key).map(|pair| pair.value.clone())
}

/// Comments out the lines of this key whose value `is_stale`; `None` when there is none.
pub(super) fn comment_out(text: &str, key: &str, is_stale: impl Fn(&str) -> bool) -> Option<String> {
    let mut changed = false;
    let lines: Vec<String> = text
        .split_inclusive('\n')
        .map(|line| {
            let stale = line.trim().split_once('=').is_some_and(|(have, value)| have.trim() == key && is_stale(&unquote(value)));
            changed |= stale;
            if stale { format!("# v2v: {line}") } else { line.to_owned() }
        })
        .collect();
    changed.then(|| lines.concat())
}
