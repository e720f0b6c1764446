//! As much YAML as netplan and cloud-init files use: block and flow collections of scalars, read into paths and values.
//!
//! Anchors and tags are not understood and end up as odd values that nothing asks for; block scalars are passed over.

/// A value and the keys that lead to it; an element of a sequence has its number in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) path: Vec<String>,
    pub(super) value: String,
    /// Line of the file, from 0.
    pub(super) line: usize,
    /// Blanks before it.
    pub(super) indent: usize,
}

impl Leaf {
    /// True when the path is this one, `*` standing for any key.
    pub(super) fn is_at(&self, path: &[&str]) -> bool {
        self.path.len() == path.len()
            && self
                .path
                .iter()
                .zip(path)
                .all(|(have, want)| have == want || *want == "*")
    }

    /// True when the path begins with this one.
    pub(super) fn is_at_start(&self, path: &[&str]) -> bool {
        self.path.len() >= path.len() && self.path.iter().zip(path).all(|(have, want)| have == want)
    }
}

/// Netplan nests four levels; no sane file goes deeper than this.
const DEPTH_MAX: usize = 32;
/// Leaves of one file; the largest netplan files have a few thousand.
const LEAVES_MAX: usize = 1 << 16;

/// Every key and element of the document with the path to it; a key that only holds others has an empty value.
pub(super) fn leaves(text: &str) -> Vec<Leaf> {
    let mut reader = Reader::default();
    for (number, line) in text.lines().enumerate() {
        if reader.found.len() > LEAVES_MAX {
            break;
        }
        reader.line(number, line);
    }
    reader.found
}

#[derive(Default)]
struct Reader {
    /// Open collections: indentation, key, and for an element its number.
    open: Vec<(usize, String, Option<usize>)>,
    found: Vec<Leaf>,
    /// Indentation of the key whose block scalar is being passed over.
    scalar: Option<usize>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        let body = strip_comment(line);
        let trimmed = body.trim_start_matches(' ');
        let indent = body.len() - trimmed.len();
        if trimmed.trim().is_empty() {
            return;
        }
        if self.scalar.is_some_and(|at| indent > at) {
            return;
        }
        self.scalar = None;
        if trimmed.starts_with('%') || trimmed.trim_end() == "---" {
            return;
        }
        self.element(number, indent, trimmed);
    }

    fn element(&mut self, number: usize, indent: usize, text: &str) {
        let (mut indent, mut text) = (indent, text);
        // `- - a` is an element of an element.
        while let Some(rest) = text
            .strip_prefix("- ")
            .or_else(|| (text.trim_end() == "-").then_some(""))
        {
            let mut index = 0;
            while let Some((at, _, item)) = self.open.last()
                && (*at > indent || (*at == indent && item.is_some()))
            {
                if *at == indent {
                    index = item.unwrap_or(0) + 1;
                }
                self.open.pop();
            }
            if self.open.len() >= DEPTH_MAX {
                return;
            }
            self.open.push((indent, format!("[{index}]"), Some(index)));
            let inner = rest.trim_start_matches(' ');
            indent += text.len() - inner.len();
            text = inner;
            if split_key(text).is_none() && !text.starts_with("- ") {
                self.leaf(number, indent, &unquote(text.trim()));
                return;
            }
        }
        let Some((key, value)) = split_key(text) else {
            return;
        };
        while self.open.last().is_some_and(|(at, ..)| *at >= indent) {
            self.open.pop();
        }
        if self.open.len() >= DEPTH_MAX {
            return;
        }
        self.open.push((indent, key, None));
        if value.starts_with(['|', '>']) {
            self.scalar = Some(indent);
        }
        self.leaf(number, indent, &value);
    }

    fn leaf(&mut self, line: usize, indent: usize, value: &str) {
        let path: Vec<String> = self.open.iter().map(|(_, key, _)| key.clone()).collect();
        let at = self.found.len();
        flow(&path, value, line, indent, &mut self.found);
        self.found.insert(
            at,
            Leaf {
                path,
                value: value.to_owned(),
                line,
                indent,
            },
        );
    }
}

/// `match: {macaddress: "…", name: x}`, `[a, b]`.
fn flow(path: &[String], value: &str, line: usize, indent: usize, found: &mut Vec<Leaf>) {
    let value = value.trim();
    let inner = |open: char, close: char| value.strip_prefix(open)?.strip_suffix(close);
    let (inner, is_map) = match (inner('{', '}'), inner('[', ']')) {
        (Some(inner), _) => (inner, true),
        (_, Some(inner)) => (inner, false),
        _ => return,
    };
    if path.len() >= DEPTH_MAX || found.len() > LEAVES_MAX {
        return;
    }
    for (index, part) in split_flow(inner).into_iter().enumerate() {
        let pair = if is_map {
            split_key(part)
        } else {
            Some((format!("[{index}]"), unquote(part)))
        };
        let Some((key, value)) = pair else { continue };
        let path: Vec<String> = path.iter().cloned().chain([key]).collect();
        found.push(Leaf {
            path: path.clone(),
            value: value.clone(),
            line,
            indent,
        });
        flow(&path, &value, line, indent, found);
    }
}

/// Parts between commas that are in no bracket and no quote.
fn split_flow(text: &str) -> Vec<&str> {
    let (mut depth, mut quote, mut from) = (0usize, None, 0);
    let mut parts = Vec::new();
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(text.get(from..at).unwrap_or_default().trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(from..).unwrap_or_default().trim());
    parts.retain(|part| !part.is_empty());
    parts
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
            Some((key, _)) if key.starts_with(['{', '[']) => return None,
            Some(pair) => pair,
            None => (text.trim_end().strip_suffix(':')?, ""),
        },
    };
    Some((key.trim().to_owned(), unquote(rest.trim())))
}

fn unquote(value: &str) -> String {
    let inner = ['"', '\'']
        .iter()
        .find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote));
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
            (None, '#') if before == ' ' || before == '\t' => {
                return line.get(..at).unwrap_or(line);
            }
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
        let value = |path: &str| {
            found
                .iter()
                .find(|leaf| leaf.path.join("/") == path)
                .map(|leaf| leaf.value.as_str())
        };
        assert_eq!(
            value("network/ethernets/ens192/match/macaddress"),
            Some("00:50:56:00:00:01")
        );
        assert_eq!(value("network/ethernets/lan1/dhcp4"), Some("true"));
        assert_eq!(value("network/vlans/vlan5/id"), Some("5"));
        assert_eq!(value("network/ethernets/ens192"), Some(""));
        assert_eq!(
            value("network/ethernets/ens192/addresses/[0]"),
            Some("10.0.0.2/24")
        );
    }

    #[test]
    fn sequences_of_mappings_and_flow_in_flow_are_read() {
        let text = "---\nnetwork:\n  config:\n  - type: physical\n    name: eth0\n    subnets:\n    - type: static\n  - name: eth1\n  version: 1\n\
                    x: {a: {b: [1, \"2, 3\"]}, c: d}\nfile: |\n  network:\n    bad: 1\nlast: 1\n";
        let found = leaves(text);
        let all: Vec<String> = found
            .iter()
            .map(|leaf| format!("{}={}", leaf.path.join("/"), leaf.value))
            .collect();
        for expected in [
            "network/config/[0]/type=physical",
            "network/config/[0]/name=eth0",
            "network/config/[0]/subnets/[0]/type=static",
            "network/config/[1]/name=eth1",
            "network/version=1",
            "x/a/b/[1]=2, 3",
            "x/c=d",
            "last=1",
        ] {
            assert!(
                all.iter().any(|have| have == expected),
                "{expected}: {all:#?}"
            );
        }
        assert!(!all.iter().any(|have| have.contains("bad")), "{all:?}");
    }

    #[test]
    fn odd_input_is_survived() {
        let deep = format!("a: {}", "{a: ".repeat(5000));
        let dashes = "- ".repeat(5000);
        for text in [
            "",
            ":",
            "a:\n\tb: c",
            "{",
            "\"",
            "'a",
            "- - -",
            "a: {b",
            "\u{e9}: \u{e9}",
            "-",
            "a: [,,]",
            deep.as_str(),
            dashes.as_str(),
        ] {
            leaves(text);
        }
    }
}
