//! Reading attributes of sysfs and procfs: capped, never failing, absent where they cannot be read.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest text that is read of an attribute, in bytes. sysfs shows one page; /proc/mounts may be longer.
const MAX_TEXT: usize = 1 << 20;
/// Entries that are read of a directory. A machine with more disks than this sends the first ones.
const MAX_ENTRIES: usize = 8192;

/// The first `cap` bytes of a file.
pub(crate) fn bytes(path: impl AsRef<Path>, cap: usize) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let limit = u64::try_from(cap).ok()?;
    File::open(path)
        .ok()?
        .take(limit)
        .read_to_end(&mut all)
        .ok()?;
    Some(all)
}

/// The whole text of a file, up to 1 MiB.
pub(crate) fn whole(path: impl AsRef<Path>) -> Option<String> {
    bytes(path, MAX_TEXT).map(|all| String::from_utf8_lossy(&all).into_owned())
}

/// An attribute: its first line without blanks around it and without control characters; empty is none.
pub(crate) fn text(path: impl AsRef<Path>) -> Option<String> {
    clean(whole(path)?.lines().next()?)
}

/// Text for people out of hostile bytes: printable, trimmed, at most 256 characters; empty is none.
pub(crate) fn clean(text: &str) -> Option<String> {
    let kept: String = text
        .chars()
        .filter(|c| !c.is_control() && *c != '\u{fffd}')
        .take(256)
        .collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

/// A decimal attribute.
pub(crate) fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path)?.parse().ok()
}

/// A hexadecimal attribute such as `0x8086`.
pub(crate) fn hex(path: impl AsRef<Path>) -> Option<u32> {
    u32::from_str_radix(text(path)?.trim_start_matches("0x"), 16).ok()
}

/// True for the attribute `1`.
pub(crate) fn flag(path: impl AsRef<Path>) -> bool {
    text(path).as_deref() == Some("1")
}

/// Names in a directory, in natural order.
pub(crate) fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .take(MAX_ENTRIES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_by_key(|name| natural(name));
    names
}

/// Last component of what a symbolic link points to.
pub(crate) fn link_name(path: impl AsRef<Path>) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// The folder itself, without symbolic links.
pub(crate) fn real(path: impl AsRef<Path>) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

/// Key of an order in which sdb comes before sdaa, and nvme2n1 before nvme10n1.
pub(crate) fn natural(name: &str) -> Vec<(usize, String)> {
    let mut parts: Vec<String> = Vec::new();
    let mut last = None;
    for c in name.chars() {
        let kind = c.is_ascii_digit();
        match parts.last_mut() {
            Some(part) if last == Some(kind) => part.push(c),
            _ => parts.push(c.to_string()),
        }
        last = Some(kind);
    }
    parts
        .into_iter()
        .map(|part| {
            let digits = part.trim_start_matches('0').len();
            match part.starts_with(|c: char| c.is_ascii_digit()) {
                true => (digits, part),
                false => (part.len(), part),
            }
        })
        .collect()
}

/// Properties that udev keeps of a device: `b8:0`, `n2` (lines `E:KEY=VALUE` of /run/udev/data).
#[derive(Debug, Default)]
pub(crate) struct Udev(Vec<(String, String)>);

impl Udev {
    /// What is kept of this device; nothing where udev does not run.
    pub(crate) fn read(run: &Path, id: &str) -> Self {
        let text = whole(run.join("udev/data").join(id)).unwrap_or_default();
        let property = |line: &str| {
            let (key, value) = line.strip_prefix("E:")?.split_once('=')?;
            Some((key.to_owned(), clean(value)?))
        };
        Self(text.lines().filter_map(property).collect())
    }

    /// One property.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let found = self.0.iter().find(|(name, _)| name == key)?;
        Some(found.1.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_the_kernel_counts() {
        let mut names = ["nvme10n1", "sdaa", "nvme2n1", "sdb", "eth1", "eth10"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(
            names,
            ["eth1", "eth10", "sdb", "nvme2n1", "nvme10n1", "sdaa"]
        );
    }

    #[test]
    fn control_characters_never_leave_an_attribute() {
        assert_eq!(clean("  a\u{1b}[2Jb\0 ").as_deref(), Some("a[2Jb"));
        assert_eq!(clean(" \0 "), None);
        assert_eq!(clean(&"x".repeat(1000)).map(|t| t.len()), Some(256));
    }
}
