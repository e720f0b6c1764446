//! Names in places that only mention them: kernel arguments for the network in the initramfs (dracut.cmdline(7)),
//! rc.inet1.conf of Slackware, and units that NixOS makes for each interface.

use types::MacAddr;

use crate::Root;
use crate::linux::boot::GRUB_DIRS;
use crate::root::join;

use super::super::found::{Configured, Found, Kind, files};
use super::super::shell;

const SLACKWARE: &str = "/etc/rc.d/rc.inet1.conf";

pub(super) fn read(root: &Root, found: &mut Found) {
    for (path, text) in karg_texts(root) {
        for token in tokens(&text) {
            karg(&path, token, found);
        }
    }
    let text = root.text(SLACKWARE).unwrap_or_default();
    for one in shell::assignments(&text) {
        // An index is the number of ethN; IFNAME[N] gives it another name (rc.inet1.conf(5)).
        if one.key.starts_with("IFNAME[")
            && let Some(name) = one.word()
        {
            found.name(SLACKWARE, name, Kind::Mention, None);
        } else if let Some(index) = one
            .key
            .strip_prefix("IPADDR[")
            .and_then(|rest| rest.strip_suffix(']'))
            && one.word().is_some()
        {
            found.name(SLACKWARE, &format!("eth{index}"), Kind::Mention, None);
        }
    }
    let units = "/etc/systemd/system";
    for unit in root.names(units) {
        let name = unit
            .strip_prefix("network-addresses-")
            .and_then(|rest| rest.strip_suffix(".service"));
        if let Some(name) = name {
            found.name(&join(units, &unit), name, Kind::Mention, None);
        }
    }
}

/// Files with kernel arguments, looked at as a whole: an argument looks like nothing else in them.
fn karg_texts(root: &Root) -> Vec<(String, String)> {
    let mut all = files(
        root,
        &[
            "/boot/loader/entries",
            "/boot/efi/loader/entries",
            "/efi/loader/entries",
        ],
        &[".conf"],
    );
    let single = GRUB_DIRS
        .iter()
        .flat_map(|dir| {
            ["grub.cfg", "menu.lst", "grub.conf", "grubenv"].map(|file| join(dir, file))
        })
        .chain(
            [
                "/etc/default/grub",
                "/etc/kernel/cmdline",
                "/boot/extlinux/extlinux.conf",
                "/boot/extlinux.conf",
                "/boot/syslinux/syslinux.cfg",
                "/boot/cmdline.txt",
                "/etc/lilo.conf",
            ]
            .map(str::to_owned),
        );
    all.extend(single.filter_map(|path| Some((path.clone(), root.text(&path)?))));
    all
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')))
}

/// True when some boot entry has this argument.
pub(in super::super) fn has_karg(root: &Root, wanted: &str) -> bool {
    karg_texts(root)
        .iter()
        .any(|(_, text)| tokens(text).any(|token| token == wanted))
}

/// `ifname=lan0:MAC`, `ip=…:ens192:none`, `bond=bond0:eth0,eth1`, `bridge=br0:ens192`, `vlan=ens192.5:ens192`.
fn karg(path: &str, token: &str, found: &mut Found) {
    let Some((key, value)) = token.split_once('=') else {
        return;
    };
    match key {
        "ifname" => {
            if let Some((name, mac)) = value.split_once(':') {
                found.add(Configured {
                    name: Some(name.to_owned()),
                    mac: mac.parse::<MacAddr>().ok(),
                    file: path.to_owned(),
                    kind: Kind::Adapter,
                    ..Configured::default()
                });
            }
        }
        "ip" => {
            if let Some(name) = ip_interface(value) {
                found.name(path, &name, Kind::Mention, None);
            }
        }
        "bond" | "bridge" | "team" => {
            let mut fields = value.split(':');
            let Some(of) = fields.next() else { return };
            found.name(path, of, Kind::Virtual, None);
            for name in fields.next().unwrap_or_default().split(',') {
                found.name(path, name, Kind::Mention, Some(of));
            }
        }
        "vlan" => {
            if let Some((_, below)) = value.split_once(':') {
                found.name(path, below, Kind::Mention, None);
            }
        }
        _ => {}
    }
}

/// `IP:PEER:GW:MASK:HOST:IF:HOW…` or `IF:HOW`; IPv6 addresses are in brackets.
fn ip_interface(value: &str) -> Option<String> {
    let mut plain = String::new();
    let mut inside = false;
    for c in value.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => plain.push(c),
            _ => {}
        }
    }
    let fields: Vec<&str> = plain.split(':').collect();
    let name = match fields.len() {
        0 | 1 => return None,
        2..=4 => fields.first()?,
        _ => fields.get(5)?,
    };
    (!name.is_empty()).then(|| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_ip_arguments_are_found() {
        for (value, name) in [
            ("dhcp", None),
            ("ens192:dhcp", Some("ens192")),
            (
                "10.0.0.2::10.0.0.1:255.255.255.0:host:ens192:none",
                Some("ens192"),
            ),
            (
                "[fd00::2]::[fd00::1]:64::ens224:none:[fd00::53]",
                Some("ens224"),
            ),
            ("::::::", None),
        ] {
            assert_eq!(ip_interface(value).as_deref(), name, "{value}");
        }
    }
}
