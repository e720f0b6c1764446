//! `--hostname` and `--timezone`, in every file in which this guest keeps them.

use crate::linux::convert::Context;
use crate::root::{CONFIG_MAX, Kind};
use crate::{Error, ErrorKind, Recorder, Result, Root};

const WHY_NAME: &str = "the guest's new host name";
const WHY_ZONE: &str = "the guest's new time zone";
const ZONES: &str = "/usr/share/zoneinfo";
const LOCALTIME: &str = "/etc/localtime";

/// Where a shell-like file names the host: RHEL to 6, SUSE of old; Gentoo (OpenRC).
const NAME_FILES: [(&str, &str); 2] = [
    ("/etc/sysconfig/network", "HOSTNAME"),
    ("/etc/conf.d/hostname", "hostname"),
];
/// Where one names the zone: RHEL to 6, SUSE to 12, Gentoo of old.
const ZONE_FILES: [(&str, &str); 3] = [
    ("/etc/sysconfig/clock", "ZONE"),
    ("/etc/sysconfig/clock", "TIMEZONE"),
    ("/etc/conf.d/clock", "TIMEZONE"),
];

/// Sets the host name.
pub(super) fn hostname(context: &mut Context<'_>, name: &str) -> Result<()> {
    let root = context.root;
    let recorder = &mut context.recorder;
    let old = old_name(root);
    let mut done = false;
    for (path, key) in NAME_FILES {
        if let Some(text) = root.text(path)
            && (has_key(&text, key) || path != "/etc/sysconfig/network")
        {
            recorder.edit(path, WHY_NAME, |text| Some(with_key(text, key, name)))?;
            done = true;
        }
    }
    let line = format!("{name}\n");
    // SUSE of old; since it has systemd, a link to the other one.
    if root
        .link_meta("/etc/HOSTNAME")
        .is_ok_and(|meta| meta.kind == Kind::File)
    {
        recorder.write("/etc/HOSTNAME", line.as_bytes(), WHY_NAME)?;
        done = true;
    }
    if root.exists("/etc/hostname") || context.guest.init == "systemd" || !done {
        recorder.write("/etc/hostname", line.as_bytes(), WHY_NAME)?;
    }
    recorder.edit("/etc/hosts", WHY_NAME, |text| {
        Some(hosts(text, old.as_deref(), name))
    })?;
    if root.is_file("/etc/cloud/cloud.cfg") {
        // cloud-init sets the name at every boot otherwise (cloud-init, "Set Hostname").
        let path = "/etc/cloud/cloud.cfg.d/99-v2v-hostname.cfg";
        recorder.write(path, b"preserve_hostname: true\n", WHY_NAME)?;
    }
    Ok(())
}

fn old_name(root: &Root) -> Option<String> {
    let plain = ["/etc/hostname", "/etc/HOSTNAME"].iter().find_map(|path| {
        let text = root.text(path)?;
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'));
        line.map(str::to_owned)
    });
    plain.or_else(|| {
        NAME_FILES.iter().find_map(|(path, key)| {
            let text = root.text(path)?;
            let value = text
                .lines()
                .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
            Some(value.trim().trim_matches(['"', '\'']).to_owned())
        })
    })
}

/// Lines of hosts(5) for this machine: of 127.0.1.1 (Debian's for the host name) all names are new; elsewhere the old
/// name becomes the new one.
fn hosts(text: &str, old: Option<&str>, name: &str) -> String {
    let short = name.split('.').next().unwrap_or(name);
    let names = if short == name {
        name.to_owned()
    } else {
        format!("{name} {short}")
    };
    let old = old.filter(|old| !old.is_empty() && !old.starts_with("localhost"));
    let old_short = old.and_then(|old| old.split('.').next());
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let (body, comment) = line
            .find(['#', '\n'])
            .map_or((line, ""), |at| line.split_at(at));
        let mut words = body.split_whitespace();
        let Some(address) = words.next() else {
            out.push_str(line);
            continue;
        };
        if address == "127.0.1.1" {
            let gap = if comment.starts_with('#') { " " } else { "" };
            out.push_str(&format!("127.0.1.1\t{names}{gap}{comment}"));
            continue;
        }
        let mut new = body.to_owned();
        for word in words {
            let better = match word {
                word if Some(word) == old => name,
                word if Some(word) == old_short => short,
                _ => continue,
            };
            new = replace_word(&new, word, better);
        }
        out.push_str(&new);
        out.push_str(comment);
    }
    out
}

/// Replaces a word between blanks.
fn replace_word(text: &str, word: &str, by: &str) -> String {
    let blank = |c: char| c == ' ' || c == '\t';
    let pieces: Vec<&str> = text.split_inclusive(blank).collect();
    pieces
        .into_iter()
        .map(|piece| match piece.strip_suffix(blank) {
            Some(stem) if stem == word => {
                format!("{by}{}", piece.get(stem.len()..).unwrap_or_default())
            }
            None if piece == word => by.to_owned(),
            _ => piece.to_owned(),
        })
        .collect()
}

fn has_key(text: &str, key: &str) -> bool {
    text.lines().any(|line| is_key(line, key))
}

fn is_key(line: &str, key: &str) -> bool {
    line.trim_start()
        .strip_prefix(key)
        .is_some_and(|rest| rest.starts_with('='))
}

/// The text with `KEY="value"`, in place of the line that has the key, or at its end.
fn with_key(text: &str, key: &str, value: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut found = false;
    for line in text.split_inclusive('\n') {
        if !is_key(line, key) {
            out.push_str(line);
            continue;
        }
        found = true;
        let quoted = line.contains('"') || value.contains(' ');
        let quote = if quoted { "\"" } else { "" };
        out.push_str(&format!("{key}={quote}{value}{quote}\n"));
    }
    if !found {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&format!("{key}=\"{value}\"\n"));
    }
    out
}

/// The zone's file in the guest; without it the guest does not know the zone.
pub(super) fn zone_file(root: &Root, zone: &str) -> Result<String> {
    let path = format!("{ZONES}/{zone}");
    if root.is_file(&path) {
        return Ok(path);
    }
    let message = if root.is_dir(ZONES) {
        format!("the guest knows no time zone {zone}")
    } else {
        "the guest has no time zones: tzdata is not installed".to_owned()
    };
    Err(Error::new(ErrorKind::Refused, message).at(path))
}

/// Sets the time zone.
pub(super) fn timezone(context: &mut Context<'_>, zone: &str) -> Result<()> {
    let root = context.root;
    let path = zone_file(root, zone)?;
    let is_copy = root
        .link_meta(LOCALTIME)
        .is_ok_and(|meta| meta.kind == Kind::File);
    let recorder: &mut Recorder<'_> = &mut context.recorder;
    if is_copy && context.guest.init != "systemd" {
        // /usr may not be mounted yet when such a guest sets its clock.
        let content = root.read(&path, CONFIG_MAX)?;
        recorder.write(LOCALTIME, &content, WHY_ZONE)?;
    } else {
        // localtime(5) wants a link, and takes the zone's name from it.
        recorder.symlink(LOCALTIME, &format!("..{path}"), WHY_ZONE)?;
    }
    if root.is_file("/etc/timezone") {
        recorder.write("/etc/timezone", format!("{zone}\n").as_bytes(), WHY_ZONE)?;
    }
    for (path, key) in ZONE_FILES {
        if root.text(path).is_some_and(|text| has_key(&text, key)) {
            recorder.edit(path, WHY_ZONE, |text| Some(with_key(text, key, zone)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_follow_the_name_and_all_else_stays() {
        let text = "127.0.0.1\tlocalhost web01\n127.0.1.1\tweb01.old web01 # me\n10.0.0.1 web01.old web012\n\n::1 localhost\n# web01\n";
        assert_eq!(
            hosts(text, Some("web01"), "db.example.org"),
            "127.0.0.1\tlocalhost db.example.org\n127.0.1.1\tdb.example.org db # me\n10.0.0.1 web01.old web012\n\n::1 localhost\n# web01\n"
        );
        assert_eq!(
            hosts("127.0.0.1 localhost\n", Some("localhost"), "x"),
            "127.0.0.1 localhost\n"
        );
        assert_eq!(hosts("10.0.0.1 a.b a", Some("a.b"), "c"), "10.0.0.1 c c");
    }

    #[test]
    fn keys_are_replaced_or_added() {
        assert_eq!(
            with_key("NETWORKING=yes\nHOSTNAME=old\n", "HOSTNAME", "new"),
            "NETWORKING=yes\nHOSTNAME=new\n"
        );
        assert_eq!(
            with_key("# x\nhostname=\"a\"", "hostname", "b"),
            "# x\nhostname=\"b\"\n"
        );
        assert_eq!(with_key("", "hostname", "b"), "hostname=\"b\"\n");
    }
}
