//! As much YAML as netplan files use: nested block mappings of scalars, read into paths and values.
//!
//! Sequences and flow mappings of one line are kept as the text of their value; anchors, tags and multi-line scalars
//! are not understood and end up as odd values that nothing asks for.

/// A value and the keys that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) path: Vec<String>,
    pub(super) value: String,
}

/// Netplan nests four levels; no sane file goes deeper than this.
const DEPTH_MAX: usize = 32;

/// Every key of the document with the path to it; a key that only holds others has an empty value.
pub(super) fn leaves(text: &str) -> Vec<Leaf> {
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let body = strip_comment(line);
        let trimmed = body.trim_start_matches(' ');
        if trimmed.trim().is_empty() || trimmed.starts_with(['-', '%']) {
            continue;
        }
        let indent = body.len() - trimmed.len();
        let Some((key, value)) = split_key(trimmed) else { continue };
        while open.last().is_some_and(|(at, _)| *at >= indent) {
            open.pop();
        }
        if open.len() == DEPTH_MAX {
            continue;
        }
        open.push((indent, key));
        let path: Vec<String> = open.iter().map(|(_, key)| key.clone()).collect();
        found.extend(flow(&path, &value));
        found.push(Leaf { path, value });
    }
    found
}

/// `match: {macaddress: "…", name: x}` in one line.
fn flow(path: &[String], value: &str) -> Vec<Leaf> {
    let Some(inner) = value.strip_prefix('{').and_then(|rest| rest.trim_end().strip_suffix('}')) else {
        return Vec::new();
    };
    inner
        .split(',')
        .filter_map(|pair| split_key(pair.trim()))
        .map(|(key, value)| Leaf { path: path.iter().cloned().chain([key]).collect(), value })
        .collect()
}

fn split_key(text: &str) -> Option<(String, String)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (key, rest) = match quote {
        Some(quote) => {
            let (key, rest) = text.get(1..)?.split_once(quote)?;
            (key, rest.trim_start().strip_prefix(':')?)
        }
        // A colon ends a key only before a blank or the end: MACs are values too.
        None => match text.split_once(": ") {
            Some(pair) => pair,
            None => (text.trim_end().strip_suffix(':')?, ""),
        },
    };
    Some((key.trim().to_owned(), unquote(rest.trim())))
}

fn unquote(value: &str) -> String {
    let inner = ['"', '\''].iter().find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote));
    inner.unwrap_or(value).to_owned()
}

/// A `#` begins a comment at the start or after a blank, outside quotes.
fn strip_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '#') if before == ' ' || before == '\t' => return line.get(..at).unwrap_or(line),
            _ => {}
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_values_of_a_netplan_file_are_read() {
        let text = "network:\n  version: 2\n  ethernets:\n    ens192: # first\n      match: {macaddress: \"00:50:56:00:00:01\"}\n      \
                    addresses:\n        - 10.0.0.2/24\n    'lan1':\n      dhcp4: true\n  vlans:\n    vlan5:\n      id: 5\n";
        let found = leaves(text);
        let value = |path: &str| found.iter().find(|leaf| leaf.path.join("/") == path).map(|leaf| leaf.value.as_str());
        assert_eq!(value("network/ethernets/ens192/match/macaddress"), Some("00:50:56:00:00:01"));
        assert_eq!(value("network/ethernets/lan1/dhcp4"), Some("true"));
        assert_eq!(value("network/vlans/vlan5/id"), Some("5"));
        assert_eq!(value("network/ethernets/ens192"), Some(""));
    }

    #[test]
    fn odd_input_is_survived() {
        for text in ["", ":", "a:\n\tb: c", "{", "\"", "'a", "- - -", "a: {b", "\u{e9}: \u{e9}"] {
            leaves(text);
        }
    }
}
