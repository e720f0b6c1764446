//! Names by udev's rules: /etc/udev/rules.d/70-persistent-net.rules, written by udev itself before systemd 197
//! (75-persistent-net-generator.rules) and still obeyed after an upgrade, and rules of the administrator's own.

use types::MacAddr;

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::found::{Configured, Found, Kind, files};

const DIR: &str = "/etc/udev/rules.d";
/// The generator's file: Debian and Red Hat, SUSE up to 10, the first Debians with udev.
const GENERATED: [&str; 3] = [
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/etc/udev/rules.d/30-net_persistent_names.rules",
    "/etc/udev/rules.d/z25_persistent-net.rules",
];
/// busybox' mdev runs this program for a new interface (mdev.conf of Alpine); it names by MAC.
const MACTAB: &str = "/etc/mactab";

/// What the rules say.
pub(super) fn read(root: &Root, found: &mut Found) {
    for (path, text) in files(root, &[DIR], &[".rules"]) {
        for line in text.lines() {
            if let Some(rule) = rule(line) {
                found.add(Configured {
                    file: path.clone(),
                    ..rule
                });
            }
        }
    }
    let text = root.text(MACTAB).unwrap_or_default();
    for line in text.lines() {
        if let [name, mac] = line.split_whitespace().collect::<Vec<_>>().as_slice() {
            found.add(Configured {
                name: Some((*name).to_owned()),
                mac: mac.parse().ok(),
                file: MACTAB.to_owned(),
                kind: Kind::Rule,
                ..Configured::default()
            });
        }
    }
}

/// A rule that names an interface: `ATTR{address}=="…"` (SYSFS{address} before 2009), `KERNELS=="0000:03:00.0"`,
/// `ENV{ID_PATH}=="pci-…"`, `DRIVERS=="vmxnet3"`, and `NAME="…"`. SUSE 10 has `IMPORT="…rename_netiface %k eth0"`.
fn rule(line: &str) -> Option<Configured> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let mut entry = Configured {
        kind: Kind::Rule,
        ..Configured::default()
    };
    for (key, operator, value) in parts(line) {
        match (key, operator) {
            ("NAME", "=" | ":=") if !value.contains(['%', '$']) => {
                entry.name = Some(value.to_owned());
            }
            ("IMPORT" | "IMPORT{program}", "=") if value.contains("rename_netiface") => {
                entry.name = value.split_whitespace().last().map(str::to_owned);
            }
            ("KERNELS" | "ENV{ID_PATH}" | "BUS_ID" | "ID", "==") if value.contains(':') => {
                entry.path = Some(value.to_owned());
            }
            ("DRIVERS" | "ENV{ID_NET_DRIVER}" | "ENV{DRIVER}", "==") if value != "?*" => {
                entry.driver = Some(value.replace('|', " "));
            }
            (key, "==") if key.ends_with("{address}") => entry.mac = value.parse().ok(),
            _ => {}
        }
    }
    entry.name.is_some().then_some(entry)
}

/// `KEY OPERATOR "VALUE"` between commas (udev(7)).
fn parts(line: &str) -> Vec<(&str, &str, &str)> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('"') {
        let Some((value, tail)) = after.split_once('"') else {
            break;
        };
        let before = before.trim_matches([',', ' ', '\t']);
        let at = before.find(['=', '!', '+', ':']).unwrap_or(before.len());
        let (key, operator) = before.split_at(at);
        found.push((key.trim(), operator.trim(), value));
        rest = tail;
    }
    found
}

/// Drops rules of adapters that are gone, and gives a guest without .link files a rule for each name.
pub(super) fn clean(context: &mut Context<'_>, macs: &[MacAddr]) -> Result<()> {
    let names = context.network.names.clone();
    for path in GENERATED {
        context.recorder.edit(
            path,
            "names adapters that this machine does not have",
            |text| {
                let new = drop_stale(text, macs, &names);
                (new != text).then_some(new)
            },
        )?;
    }
    retire(context, &names)?;
    if context.network.udev.uses_links || names.is_empty() {
        return Ok(());
    }
    let udev = ["/lib/udev", "/sbin/udevd", "/usr/lib/udev"]
        .iter()
        .any(|path| context.root.exists(path));
    if udev {
        return write(context, &names);
    }
    // Without udev, names are the kernel's, and its order that of the domain's slots.
    let kernels = names.iter().all(|(mac, name)| {
        macs.iter()
            .position(|have| have == mac)
            .is_some_and(|at| *name == format!("eth{at}"))
    });
    let nameif = context.root.text("/etc/mdev.conf").is_some_and(|text| {
        text.lines()
            .any(|line| !line.trim_start().starts_with('#') && line.contains("nameif"))
    });
    match (kernels, nameif) {
        (true, _) => Ok(()),
        (false, true) => mactab(context, &names),
        (false, false) => {
            let list: Vec<String> = names
                .iter()
                .map(|(mac, name)| format!("{name} ({mac})"))
                .collect();
            context.recorder.warn(format!(
                "the guest has no udev that could keep interface names; check that its network configuration fits: {}",
                list.join(", ")
            ));
            Ok(())
        }
    }
}

/// udev before 098 (Red Hat 5, SUSE 10) has no ATTR; its own rules, all in /etc then, are written so.
fn speaks_sysfs(root: &Root) -> bool {
    let all = files(
        root,
        &[DIR, "/lib/udev/rules.d", "/usr/lib/udev/rules.d"],
        &[".rules"],
    );
    let has = |word: &str| all.iter().any(|(_, text)| text.contains(word));
    has("SYSFS{") && !has("ATTR{")
}

fn write(context: &mut Context<'_>, names: &[(MacAddr, String)]) -> Result<()> {
    // Where the guest has the generator's file, that is the place.
    let path = GENERATED
        .iter()
        .find(|path| context.root.is_file(path))
        .unwrap_or(&GENERATED[0]);
    let old = context.root.text(path).unwrap_or_default();
    let have: Vec<(Option<MacAddr>, Option<String>)> = old
        .lines()
        .filter_map(rule)
        .map(|rule| (rule.mac, rule.name))
        .collect();
    let mut text = old;
    let (driver, attr) = match speaks_sysfs(context.root) {
        true => ("", "SYSFS"),
        false => ("DRIVERS==\"?*\", ", "ATTR"),
    };
    for (mac, name) in names {
        if have.contains(&(Some(*mac), Some(name.clone()))) {
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += &format!(
            "# Written by v2v\nSUBSYSTEM==\"net\", ACTION==\"add\", {driver}{attr}{{address}}==\"{mac}\", \
             {attr}{{type}}==\"1\", NAME=\"{name}\"\n"
        );
    }
    context.recorder.write(path, text.as_bytes(), super::WHY)?;
    Ok(())
}

/// `NAME MAC` (nameif(8)).
fn mactab(context: &mut Context<'_>, names: &[(MacAddr, String)]) -> Result<()> {
    let old = context.root.text(MACTAB).unwrap_or_default();
    let ours = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        names.iter().any(|(mac, name)| {
            words.first() == Some(&name.as_str())
                || words.get(1).is_some_and(|word| word.parse() == Ok(*mac))
        })
    };
    let mut text: String = old
        .split_inclusive('\n')
        .filter(|line| line.trim_start().starts_with('#') || !ours(line))
        .collect();
    for (mac, name) in names {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += &format!("{name} {mac}\n");
    }
    context
        .recorder
        .write(MACTAB, text.as_bytes(), super::WHY)?;
    Ok(())
}

/// Rules that name by a place of the old machine's bus or by its driver: on the new one they would hit another adapter.
fn retire(context: &mut Context<'_>, names: &[(MacAddr, String)]) -> Result<()> {
    let mut paths: Vec<String> = context
        .network
        .found
        .entries
        .iter()
        .filter(|entry| entry.kind == Kind::Rule && entry.mac.is_none())
        .filter(|entry| entry.path.is_some() || entry.driver.is_some())
        .map(|entry| entry.file.clone())
        .collect();
    paths.dedup();
    for path in paths {
        let mut kept: Vec<String> = Vec::new();
        context.recorder.edit(
            &path,
            "names by the old machine's slots; each adapter has its name by MAC now",
            |text| {
                let lines = text.split_inclusive('\n').map(|line| match rule(line) {
                    Some(Configured {
                        mac: None,
                        path,
                        driver,
                        name: Some(name),
                        ..
                    }) if path.is_some() || driver.is_some() => {
                        if names.iter().any(|(_, have)| *have == name) {
                            return format!("# v2v: {line}");
                        }
                        kept.push(name);
                        line.to_owned()
                    }
                    _ => line.to_owned(),
                });
                let new: String = lines.collect();
                (new != text).then_some(new)
            },
        )?;
        if !kept.is_empty() {
            context.recorder.warn(format!(
                "{path} names {} by a slot or driver of the old machine, and no adapter is known for it; check it",
                kept.join(", ")
            ));
        }
    }
    Ok(())
}

/// Leaves out rules for MACs that are not the machine's, and for names that another adapter gets, each with the comment
/// above it.
fn drop_stale(text: &str, macs: &[MacAddr], names: &[(MacAddr, String)]) -> String {
    let mut out: Vec<&str> = Vec::new();
    for line in text.split_inclusive('\n') {
        let pair = rule(line).and_then(|rule| Some((rule.mac?, rule.name?)));
        let stale = pair.is_some_and(|(mac, name)| {
            let other = names
                .iter()
                .any(|(have, given)| (*have == mac) != (*given == name));
            !macs.contains(&mac) || other
        });
        if !stale {
            out.push(line);
        } else if out
            .last()
            .is_some_and(|above| above.trim_start().starts_with('#'))
        {
            out.pop();
        }
    }
    out.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# This file was automatically generated\n\n# PCI device 0x15ad:0x07b0 (vmxnet3)\n\
        SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{address}==\"00:50:56:00:00:01\", KERNEL==\"eth*\", NAME=\"eth0\"\n\n\
        # PCI device 0x8086:0x100f (e1000)\n\
        SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{address}==\"00:0c:29:00:00:02\", NAME=\"eth1\"\n";

    #[test]
    fn rules_of_adapters_that_are_gone_are_dropped_with_their_comment() {
        let mac: MacAddr = "00:50:56:00:00:01".parse().unwrap();
        let new = drop_stale(TEXT, &[mac], &[(mac, "eth0".into())]);
        assert!(
            new.contains("00:50:56:00:00:01") && new.contains("vmxnet3"),
            "{new}"
        );
        assert!(!new.contains("eth1") && !new.contains("e1000"), "{new}");
        assert_eq!(drop_stale(&new, &[mac], &[(mac, "eth0".into())]), new);
    }

    #[test]
    fn rules_of_every_generation_are_read() {
        let of = |line: &str| {
            let rule = rule(line)?;
            Some((
                rule.name.unwrap(),
                rule.mac.is_some(),
                rule.path,
                rule.driver,
            ))
        };
        let name = |name: &str| name.to_owned();
        for (line, expected) in [
            (
                "SUBSYSTEM==\"net\",SYSFS{address}==\"00:50:56:00:00:01\",NAME=\"eth0\"",
                Some((name("eth0"), true, None, None)),
            ),
            (
                "SUBSYSTEM==\"net\", ACTION==\"add\", SYSFS{address}==\"00:50:56:00:00:01\", IMPORT=\"/lib/udev/rename_netiface %k eth1\"",
                Some((name("eth1"), true, None, None)),
            ),
            (
                "SUBSYSTEM==\"net\", KERNELS==\"0000:0b:00.0\", NAME=\"lan0\"",
                Some((name("lan0"), false, Some(name("0000:0b:00.0")), None)),
            ),
            (
                "SUBSYSTEM==\"net\", ENV{ID_NET_DRIVER}==\"vmxnet3\", NAME=\"lan0\"",
                Some((name("lan0"), false, None, Some(name("vmxnet3")))),
            ),
            ("KERNEL==\"sda\", SYMLINK+=\"disk\"", None),
            (
                "NAME==\"\", ENV{ID_NET_NAME}!=\"\", NAME=\"$env{ID_NET_NAME}\"",
                None,
            ),
            ("# NAME=\"eth0\"", None),
            ("NAME=\"", None),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
    }
}
