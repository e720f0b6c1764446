//! fstab and files of its kind (crypttab, mtab): lines of fields between blanks (fstab(5)).
//!
//! A rewrite replaces single fields and leaves every other byte of the file alone: alignment, comments, order.

use crate::linux::escapes;

/// One mount of fstab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FstabEntry {
    /// First field as written.
    pub(crate) spec: String,
    /// Mount point, escapes undone.
    pub(crate) target: String,
    /// Type as written; may be a list or `auto`.
    pub(crate) fs_type: String,
    /// Options, split.
    pub(crate) options: Vec<String>,
}

impl FstabEntry {
    /// True when the option is set.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|have| have == option)
    }

    fn read(fields: &[&str]) -> Option<Self> {
        let [spec, target, fs_type, rest @ ..] = fields else {
            return None;
        };
        let options = rest.first().unwrap_or(&"defaults");
        Some(Self {
            spec: escapes::octal(spec),
            target: escapes::octal(target),
            fs_type: (*fs_type).to_owned(),
            options: options.split(',').map(str::to_owned).collect(),
        })
    }
}

/// The mounts of an fstab; lines that are none are skipped.
pub(crate) fn parse(text: &str) -> Vec<FstabEntry> {
    fields(text)
        .filter_map(|line| FstabEntry::read(&line))
        .collect()
}

/// Fields of each line that is neither empty nor a comment.
pub(crate) fn fields(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(|line| {
            line.split([' ', '\t', '\r'])
                .filter(|field| !field.is_empty())
                .collect::<Vec<_>>()
        })
        .filter(|fields| fields.first().is_some_and(|first| !first.starts_with('#')))
}

/// Replaces field `index` of each line for which `new` returns something. `None` when no line changes.
pub(crate) fn rewrite(
    text: &str,
    index: usize,
    mut new: impl FnMut(&[&str]) -> Option<String>,
) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut changed = false;
    for line in text.split_inclusive('\n') {
        let spans = spans(line);
        let fields: Vec<&str> = spans
            .iter()
            .filter_map(|span| line.get(span.clone()))
            .collect();
        let comment = fields.first().is_none_or(|first| first.starts_with('#'));
        let replacement = if comment { None } else { new(&fields) };
        match (replacement, spans.get(index)) {
            (Some(value), Some(span)) if line.get(span.clone()) != Some(value.as_str()) => {
                out.push_str(line.get(..span.start).unwrap_or_default());
                out.push_str(&value);
                out.push_str(line.get(span.end..).unwrap_or_default());
                changed = true;
            }
            _ => out.push_str(line),
        }
    }
    changed.then_some(out)
}

/// Rewrites the first field of fstab lines.
pub(crate) fn rewrite_specs(
    text: &str,
    mut new: impl FnMut(&FstabEntry) -> Option<String>,
) -> Option<String> {
    rewrite(text, 0, |fields| new(&FstabEntry::read(fields)?))
}

fn spans(line: &str) -> Vec<std::ops::Range<usize>> {
    let mut spans = Vec::new();
    let mut start = None;
    for (at, byte) in line.bytes().enumerate() {
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match (blank, start) {
            (false, None) => start = Some(at),
            (true, Some(from)) => {
                spans.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        spans.push(from..line.len());
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "# /etc/fstab\n/dev/sda1\t/  ext4   errors=remount-ro 0       1\n\nUUID=1 /my\\040dir xfs\n/dev/sda5 none swap sw 0 0";

    #[test]
    fn entries_are_read_with_their_escapes_undone() {
        let entries = parse(SAMPLE);
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[1].target, "/my dir");
        assert_eq!(entries[1].options, ["defaults"]);
        assert!(entries[0].has("errors=remount-ro"));
    }

    #[test]
    fn a_rewrite_keeps_every_other_byte() {
        let new = rewrite_specs(SAMPLE, |entry| {
            (entry.spec == "/dev/sda1").then(|| "UUID=abc".to_owned())
        })
        .unwrap();
        assert_eq!(new, SAMPLE.replace("/dev/sda1", "UUID=abc"));
        assert_eq!(rewrite_specs(&new, |_| None), None);
    }

    #[test]
    fn the_second_field_of_crypttab_is_replaced_alone() {
        let text = "# c\nswap  /dev/sda3 /dev/urandom swap\n";
        let new = rewrite(text, 1, |_| Some("UUID=x".to_owned())).unwrap();
        assert_eq!(new, "# c\nswap  UUID=x /dev/urandom swap\n");
    }
}
