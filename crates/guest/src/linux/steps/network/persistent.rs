//! /etc/udev/rules.d/70-persistent-net.rules: names by MAC, written by udev itself before systemd 197
//! (75-persistent-net-generator.rules), and still obeyed after an upgrade.

use types::MacAddr;

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::config::Configured;

const RULES: [&str; 2] = ["/etc/udev/rules.d/70-persistent-net.rules", "/etc/udev/rules.d/z25_persistent-net.rules"];

/// What the rules say.
pub(super) fn read(root: &Root) -> Vec<Configured> {
    let mut found = Vec::new();
    for path in RULES {
        let text = root.text(path).unwrap_or_default();
        for line in text.lines() {
            if let Some((mac, name)) = rule(line) {
                found.push(Configured { name: Some(name), mac: Some(mac), file: path.to_owned(), is_rule: true });
            }
        }
    }
    found
}

/// `ATTR{address}=="…"` (or SYSFS{address}, before 2009) and `NAME="…"` of a rule.
fn rule(line: &str) -> Option<(MacAddr, String)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let quoted = |key: &str| line.split_once(key)?.1.split('"').next().map(str::to_owned);
    let mac = quoted("{address}==\"")?.parse().ok()?;
    Some((mac, quoted(", NAME=\"").or_else(|| quoted(",NAME=\"")).or_else(|| quoted(" NAME=\""))?))
}

/// Drops rules of adapters that are gone, and gives a guest without .link files a rule for each name.
pub(super) fn clean(context: &mut Context<'_>, macs: &[MacAddr]) -> Result<()> {
    let names = context.network.names.clone();
    for path in RULES {
        context.recorder.edit(path, "names adapters that this machine does not have", |text| {
            let new = drop_stale(text, macs, &names);
            (new != text).then_some(new)
        })?;
    }
    if context.network.uses_links || names.is_empty() {
        return Ok(());
    }
    let udev = ["/lib/udev", "/sbin/udevd", "/usr/lib/udev"].iter().any(|path| context.root.exists(path));
    if !udev {
        context.recorder.warn("the guest has no udev that could keep interface names; check its network configuration");
        return Ok(());
    }
    let path = RULES[0];
    let old = context.root.text(path).unwrap_or_default();
    let have: Vec<(MacAddr, String)> = old.lines().filter_map(rule).collect();
    let mut text = old;
    for (mac, name) in names.iter().filter(|pair| !have.contains(pair)) {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += &format!(
            "# Written by v2v\nSUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{{address}}==\"{mac}\", \
             ATTR{{type}}==\"1\", NAME=\"{name}\"\n"
        );
    }
    context.recorder.write(path, text.as_bytes(), super::WHY)?;
    Ok(())
}

/// Leaves out rules for MACs that are not the machine's, and for names that another adapter gets, each with the comment
/// above it.
fn drop_stale(text: &str, macs: &[MacAddr], names: &[(MacAddr, String)]) -> String {
    let mut out: Vec<&str> = Vec::new();
    for line in text.split_inclusive('\n') {
        let stale = rule(line).is_some_and(|(mac, name)| {
            let other = names.iter().any(|(have, given)| (*have == mac) != (*given == name));
            !macs.contains(&mac) || other
        });
        if !stale {
            out.push(line);
        } else if out.last().is_some_and(|above| above.trim_start().starts_with('#')) {
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
        assert!(new.contains("00:50:56:00:00:01") && new.contains("vmxnet3"), "{new}");
        assert!(!new.contains("eth1") && !new.contains("e1000"), "{new}");
        assert_eq!(drop_stale(&new, &[mac], &[(mac, "eth0".into())]), new);
    }
}
