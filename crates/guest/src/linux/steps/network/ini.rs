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
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name;
        } else if let Some((key, value)) = line.split_once('=')
            && !line.starts_with(['#', ';'])
        {
            found.push(Pair {
                section,
                key: key.trim(),
                value: unquote(value),
            });
        }
    }
    found
}

/// The last value of a key in a section.
pub(super) fn value(pairs: &[Pair<'_>], section: &str, key: &str) -> Option<String> {
    pairs
        .iter()
        .rfind(|pair| pair.section == section && pair.key == key)
        .map(|pair| pair.value.clone())
}

/// Comments out the lines of this key whose value `is_stale`; `None` when there is none.
pub(super) fn comment_out(
    text: &str,
    key: &str,
    is_stale: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut changed = false;
    let lines: Vec<String> = text
        .split_inclusive('\n')
        .map(|line| {
            let stale = line
                .trim()
                .split_once('=')
                .is_some_and(|(have, value)| have.trim() == key && is_stale(&unquote(value)));
            changed |= stale;
            if stale {
                format!("# v2v: {line}")
            } else {
                line.to_owned()
            }
        })
        .collect();
    changed.then(|| lines.concat())
}

/// Sets a key in a section: its first line is replaced and further ones commented out; a new one goes to the end of the
/// section, a new section to the end of the file.
pub(super) fn set(text: &str, section: &str, key: &str, value: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let (mut here, mut done) = (section.is_empty(), false);
    let mut end = section.is_empty().then_some(0);
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if let Some(name) = header(trimmed) {
            here = name == section;
            if here {
                end = Some(lines.len() + 1);
            }
        }
        let ours = here && is_key(trimmed, key);
        if here && !trimmed.is_empty() {
            end = Some(lines.len() + 1);
        }
        lines.push(match (ours, done) {
            (true, false) => format!("{key}={value}\n"),
            (true, true) => format!("# v2v: {line}"),
            _ => line.to_owned(),
        });
        done |= ours;
    }
    if !done {
        let at_end = end.is_none_or(|at| at >= lines.len());
        if let Some(last) = lines
            .last_mut()
            .filter(|line| at_end && !line.ends_with('\n'))
        {
            last.push('\n');
        }
        match end {
            Some(at) => lines.insert(at.min(lines.len()), format!("{key}={value}\n")),
            None => {
                let gap = if lines.is_empty() { "" } else { "\n" };
                lines.push(format!("{gap}[{section}]\n{key}={value}\n"));
            }
        }
    }
    lines.concat()
}

/// Comments out every line of a section, or those of some keys in it.
pub(super) fn disable(text: &str, section: &str, keys: Option<&[&str]>) -> String {
    let mut here = section.is_empty();
    text.split_inclusive('\n')
        .map(|line| {
            let trimmed = line.trim();
            if let Some(name) = header(trimmed) {
                here = name == section;
                return line.to_owned();
            }
            let comment = trimmed.is_empty() || trimmed.starts_with(['#', ';']);
            let ours = keys.is_none_or(|keys| keys.iter().any(|key| is_key(trimmed, key)));
            if here && !comment && ours {
                format!("# v2v: {line}")
            } else {
                line.to_owned()
            }
        })
        .collect()
}

fn header(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

fn is_key(line: &str, key: &str) -> bool {
    line.split_once('=')
        .is_some_and(|(have, _)| have.trim() == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# top\n[a]\nx=1\n# c\nx = 2\n\n[b]\ny=1";

    #[test]
    fn a_key_is_set_where_it_is_or_where_it_belongs() {
        assert_eq!(
            set(TEXT, "a", "x", "9"),
            "# top\n[a]\nx=9\n# c\n# v2v: x = 2\n\n[b]\ny=1"
        );
        assert_eq!(
            set(TEXT, "a", "z", "9"),
            "# top\n[a]\nx=1\n# c\nx = 2\nz=9\n\n[b]\ny=1"
        );
        assert_eq!(set(TEXT, "b", "z", "9"), format!("{TEXT}\nz=9\n"));
        assert_eq!(set(TEXT, "c", "z", "9"), format!("{TEXT}\n\n[c]\nz=9\n"));
        assert_eq!(set("", "c", "z", "9"), "[c]\nz=9\n");
        let once = set(TEXT, "a", "x", "9");
        assert_eq!(set(&once, "a", "x", "9"), once);
    }

    #[test]
    fn a_section_is_disabled_once() {
        let new = disable(TEXT, "a", None);
        assert_eq!(new, "# top\n[a]\n# v2v: x=1\n# c\n# v2v: x = 2\n\n[b]\ny=1");
        assert_eq!(disable(&new, "a", None), new);
    }
}
