//! Boot Loader Specification entries, type 1: `loader/entries/*.conf` (UAPI.1 Boot Loader Specification).
//!
//! GRUB's `blscfg` and systemd-boot read the same files and order them differently; both orders are here.

use std::cmp::Ordering;

use crate::Root;
use crate::root::join;

/// Entries of one directory that are read.
const FILES_MAX: usize = 512;

/// One entry file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Path of the file.
    pub(crate) path: String,
    /// File name without `.conf` and boot counter.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) version: String,
    pub(crate) sort_key: String,
    pub(crate) machine_id: String,
    pub(crate) linux: String,
    pub(crate) initrds: Vec<String>,
    pub(crate) options: String,
    /// Line of the (first) options, from 1.
    pub(crate) options_line: usize,
    /// Tries left of a counted entry (`NAME+LEFT-DONE.conf`, systemd's Automatic Boot Assessment).
    pub(crate) tries_left: Option<u32>,
}

/// The entries of a directory that start Linux, by name.
pub(crate) fn read(root: &Root, dir: &str) -> Vec<Entry> {
    let names = root.names(dir);
    let confs = names.iter().filter(|name| name.ends_with(".conf"));
    confs
        .take(FILES_MAX)
        .filter_map(|name| {
            let path = join(dir, name);
            let entry = parse(&path, &root.text(&path)?);
            (!entry.linux.is_empty()).then_some(entry)
        })
        .collect()
}

fn parse(path: &str, text: &str) -> Entry {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (id, tries_left) = counted(name.strip_suffix(".conf").unwrap_or(name));
    let mut entry = Entry {
        path: path.to_owned(),
        id: id.to_owned(),
        tries_left,
        ..Entry::default()
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some((key, value)) = line.split_once([' ', '\t']) else {
            continue;
        };
        let value = value.trim();
        match key {
            "title" => value.clone_into(&mut entry.title),
            "version" => value.clone_into(&mut entry.version),
            "sort-key" => value.clone_into(&mut entry.sort_key),
            "machine-id" => value.clone_into(&mut entry.machine_id),
            "linux" => value.clone_into(&mut entry.linux),
            // GRUB takes several on one line; a variable is one of tuned's.
            "initrd" => entry.initrds.extend(
                value
                    .split_whitespace()
                    .filter(|path| !path.starts_with('$'))
                    .map(str::to_owned),
            ),
            "options" => {
                if entry.options_line == 0 {
                    entry.options_line = number + 1;
                } else {
                    entry.options.push(' ');
                }
                entry.options.push_str(value);
            }
            _ => {}
        }
    }
    entry
}

/// Splits `NAME+LEFT` and `NAME+LEFT-DONE`.
pub(crate) fn counted(stem: &str) -> (&str, Option<u32>) {
    let split = || {
        let (name, counter) = stem.rsplit_once('+')?;
        let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
        let left = left.parse().ok()?;
        done.parse::<u32>().ok().map(|_| (name, Some(left)))
    };
    split().unwrap_or((stem, None))
}

/// As `blscfg` lists them: by name, version and release of the file's name, the highest first.
pub(crate) fn grub_order(a: &Entry, b: &Entry) -> Ordering {
    let (name_a, version_a, release_a) = name_version_release(&a.id);
    let (name_b, version_b, release_b) = name_version_release(&b.id);
    rpm_compare(name_b, name_a)
        .then_with(|| rpm_compare(version_b, version_a))
        .then_with(|| rpm_compare(release_b, release_a))
}

fn name_version_release(id: &str) -> (&str, &str, &str) {
    let (rest, release) = id.rsplit_once('-').unwrap_or((id, ""));
    let (name, version) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (name, version, release)
}

/// As systemd-boot lists them: entries that used up their tries last; those with a sort key first, by key, machine and
/// falling version; then by falling name (UAPI.1, "Sorting").
pub(crate) fn systemd_order(a: &Entry, b: &Entry) -> Ordering {
    let spent = |entry: &Entry| entry.tries_left == Some(0);
    let keyed = |entry: &Entry| !entry.sort_key.is_empty();
    spent(a)
        .cmp(&spent(b))
        .then_with(|| keyed(b).cmp(&keyed(a)))
        .then_with(|| {
            if keyed(a) && keyed(b) {
                a.sort_key
                    .cmp(&b.sort_key)
                    .then_with(|| a.machine_id.cmp(&b.machine_id))
                    .then_with(|| rpm_compare(&b.version, &a.version))
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| rpm_compare(&b.id, &a.id))
}

/// Compares versions as rpm does: runs of digits by number, runs of letters by text, digits above letters, `~` below
/// everything (rpm-version(7)).
pub(crate) fn rpm_compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let separator = |c: char| !c.is_ascii_alphanumeric() && c != '~' && c != '^';
        (a, b) = (
            a.trim_start_matches(separator),
            b.trim_start_matches(separator),
        );
        for (mark, present_is) in [('~', Ordering::Less), ('^', Ordering::Greater)] {
            match (a.starts_with(mark), b.starts_with(mark)) {
                (false, false) => continue,
                // `^` beats the end of the text only.
                (true, false) if mark == '^' && !b.is_empty() => return Ordering::Less,
                (false, true) if mark == '^' && !a.is_empty() => return Ordering::Greater,
                (true, false) => return present_is,
                (false, true) => return present_is.reverse(),
                (true, true) => {}
            }
            (a, b) = (a.split_at(1).1, b.split_at(1).1);
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        if a.starts_with(['~', '^']) || b.starts_with(['~', '^']) {
            continue;
        }
        let digits = a.starts_with(|c: char| c.is_ascii_digit());
        let class = |c: char| {
            if digits {
                c.is_ascii_digit()
            } else {
                c.is_ascii_alphabetic()
            }
        };
        let (piece_a, rest_a) = a.split_at(a.find(|c| !class(c)).unwrap_or(a.len()));
        let (piece_b, rest_b) = b.split_at(b.find(|c| !class(c)).unwrap_or(b.len()));
        if piece_b.is_empty() {
            return if digits {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        let order = if digits {
            let (x, y) = (
                piece_a.trim_start_matches('0'),
                piece_b.trim_start_matches('0'),
            );
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            piece_a.cmp(piece_b)
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpm_versions_compare_as_rpm_does() {
        for (a, b, want) in [
            ("5.14.0", "5.9.0", Ordering::Greater),
            ("362.el9", "70.el9", Ordering::Greater),
            ("1.0~rc1", "1.0", Ordering::Less),
            ("1.0^git1", "1.0", Ordering::Greater),
            ("1.0^git1", "1.0.1", Ordering::Less),
            ("1a", "11", Ordering::Less),
            ("a", "1", Ordering::Less),
            ("007", "7", Ordering::Equal),
            ("1.", "1", Ordering::Equal),
            ("", "1", Ordering::Less),
            ("99999999999999999999999", "1", Ordering::Greater),
            ("~", "~", Ordering::Equal),
        ] {
            assert_eq!(rpm_compare(a, b), want, "{a} {b}");
            assert_eq!(rpm_compare(b, a), want.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn grub_lists_the_newest_first_and_the_rescue_entry_last() {
        let id = "d5a5bd0cd9e54d4c9d2d1ae4f2a9bd1c";
        let mut entries: Vec<Entry> = [
            "0-rescue",
            "5.14.0-70.el9.x86_64",
            "5.14.0-362.8.1.el9_3.x86_64",
        ]
        .map(|version| parse(&format!("/e/{id}-{version}.conf"), "linux /vmlinuz\n"))
        .to_vec();
        entries.sort_by(grub_order);
        let ids: Vec<&str> = entries
            .iter()
            .filter_map(|entry| entry.id.get(33..))
            .collect();
        assert_eq!(
            ids,
            [
                "5.14.0-362.8.1.el9_3.x86_64",
                "5.14.0-70.el9.x86_64",
                "0-rescue"
            ]
        );
    }

    #[test]
    fn systemd_boot_lists_spent_entries_last() {
        let entry = |name: &str, text: &str| parse(&format!("/e/{name}.conf"), text);
        let mut entries = [
            entry("old", "linux /a\nversion 9\n"),
            entry("arch+0-3", "sort-key arch\nversion 7\nlinux /a\n"),
            entry("arch-a+3", "sort-key arch\nversion 6.1\nlinux /a\n"),
            entry("arch-b", "sort-key arch\nversion 6.10\nlinux /a\n"),
        ];
        entries.sort_by(systemd_order);
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["arch-b", "arch-a", "old", "arch"]);
        assert_eq!(counted("c++-x"), ("c++-x", None));
    }

    #[test]
    fn options_on_several_lines_are_one() {
        let entry = parse(
            "/e/x.conf",
            "# c\ntitle Arch Linux\nlinux\t/vmlinuz-linux\ninitrd /ucode.img /initramfs.img $tuned_initrd\noptions root=a\noptions ro\n",
        );
        assert_eq!(
            (entry.options.as_str(), entry.options_line),
            ("root=a ro", 5)
        );
        assert_eq!(entry.initrds, ["/ucode.img", "/initramfs.img"]);
        assert_eq!(entry.title, "Arch Linux");
    }
}
