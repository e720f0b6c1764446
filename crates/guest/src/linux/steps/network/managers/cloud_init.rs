//! cloud-init: configuration that it would write anew on the next boot, because the datasource of the old platform is
//! gone and the fallback is DHCP on the first adapter (cloud-init, "Network configuration").

use crate::linux::convert::Context;
use crate::root::join;
use crate::{Result, Root};

use super::super::found::{Configured, Found, Kind, files};
use super::super::yaml;
use super::netplan;

const DIRS: [&str; 1] = ["/etc/cloud/cloud.cfg.d"];
const MAIN: &str = "/etc/cloud/cloud.cfg";
/// The name sorts behind the usual ones: the last file of the directory wins.
const OWN: &str = "/etc/cloud/cloud.cfg.d/99-v2v-network.cfg";
const WHY: &str =
    "cloud-init would replace the network configuration by DHCP, its datasource is gone";

fn configs(root: &Root) -> Vec<(String, String)> {
    let main = root.text(MAIN).map(|text| (MAIN.to_owned(), text));
    let mut all: Vec<_> = main.into_iter().collect();
    all.extend(files(root, &DIRS, &[".cfg"]));
    all
}

/// Version 1 and 2 of a `network:` in the system's own configuration.
pub(super) fn read(root: &Root, found: &mut Found) {
    for (path, text) in configs(root) {
        netplan::document(&path, &text, found);
        let leaves = yaml::leaves(&text);
        for leaf in leaves
            .iter()
            .filter(|leaf| leaf.is_at(&["network", "config", "*", "type"]))
        {
            let Some(item) = leaf.path.get(2) else {
                continue;
            };
            let value = |key: &str| {
                leaves
                    .iter()
                    .find(|leaf| leaf.is_at(&["network", "config", item, key]))
                    .map(|leaf| leaf.value.clone())
            };
            let kind = match leaf.value.as_str() {
                "physical" => Kind::Adapter,
                "bond" | "bridge" | "vlan" => Kind::Virtual,
                _ => continue,
            };
            let name = value("name").unwrap_or_default();
            found.add(Configured {
                mac: value("mac_address")
                    .and_then(|mac| mac.parse().ok())
                    .filter(|_| kind == Kind::Adapter),
                name: Some(name.clone()),
                file: path.clone(),
                kind,
                ..Configured::default()
            });
            for leaf in leaves.iter().filter(|leaf| {
                leaf.is_at(&["network", "config", item, "bond_interfaces", "*"])
                    || leaf.is_at(&["network", "config", item, "bridge_interfaces", "*"])
            }) {
                found.name(&path, &leaf.value, Kind::Mention, Some(&name));
            }
        }
    }
}

/// True when cloud-init runs in this guest and writes its network configuration.
pub(in super::super) fn is_active(root: &Root) -> bool {
    let there = [
        "/usr/bin/cloud-init",
        "/usr/local/bin/cloud-init",
        "/usr/bin/cloud-init-per",
    ]
    .iter()
    .any(|path| root.exists(path));
    let masked = [
        "cloud-init.service",
        "cloud-init-local.service",
        "cloud-init-network.service",
    ]
    .iter()
    .any(|unit| {
        root.read_link(&format!("/etc/systemd/system/{unit}"))
            .is_ok_and(|target| target == "/dev/null")
    });
    let off = root.exists("/etc/cloud/cloud-init.disabled")
        || super::others::has_karg(root, "cloud-init=disabled");
    there && !masked && !off && own_network(root).is_none()
}

/// What the system's own configuration says of the network: the last file that speaks of it wins.
fn own_network(root: &Root) -> Option<String> {
    let last = configs(root).into_iter().rev().find(|(_, text)| {
        yaml::leaves(text)
            .iter()
            .any(|leaf| leaf.is_at(&["network", "*"]))
    });
    last.map(|(path, _)| path)
}

/// Files that cloud-init wrote and that hold an address of the guest.
fn static_files(root: &Root) -> Vec<String> {
    let by_name = |dir: &str| {
        let names = root.names(dir).into_iter();
        names
            .filter(|name| name.contains("cloud-init"))
            .map(|name| join(dir, &name))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<String> = [
        "/etc/netplan",
        "/etc/network/interfaces.d",
        "/etc/NetworkManager/system-connections",
        "/etc/systemd/network",
    ]
    .iter()
    .flat_map(|dir| by_name(dir))
    .collect();
    for dir in ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"] {
        let names = root.names(dir).into_iter();
        all.extend(
            names
                .filter(|name| name.starts_with("ifcfg-"))
                .map(|name| join(dir, &name)),
        );
    }
    all.push("/etc/network/interfaces".into());
    all.push("/etc/conf.d/net".into());
    all.retain(|path| {
        root.text(path).is_some_and(|text| {
            let ours = path.contains("cloud-init")
                || text.contains("Created by cloud-init")
                || text.contains("generated from information provided by");
            ours && has_address(path, &text)
        })
    });
    all
}

/// True when the file gives an interface an address, a bond, bridge or VLAN: more than the fallback would.
fn has_address(path: &str, text: &str) -> bool {
    if path.ends_with(".yaml") {
        return yaml::leaves(text).iter().any(|leaf| {
            leaf.is_at(&["network", "*", "*", "addresses"])
                || ["bonds", "bridges", "vlans"]
                    .iter()
                    .any(|kind| leaf.is_at(&["network", kind, "*"]))
        });
    }
    const KEYS: [&str; 10] = [
        "address",
        "address1",
        "ipaddr",
        "ipaddr0",
        "ipv6addr",
        "method",
        "bootproto",
        "master",
        "bond-master",
        "bridge",
    ];
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .any(|line| {
            let lower = line.to_ascii_lowercase();
            let (key, value) = lower.split_once(['=', ' ']).unwrap_or((&lower, ""));
            let value = value.trim().trim_matches(['"', '\'']);
            let automatic = [
                "",
                "auto",
                "dhcp",
                "dhcp4",
                "dhcp6",
                "none",
                "disabled",
                "ignore",
                "link-local",
            ];
            (KEYS.contains(&key) && !automatic.contains(&value))
                || (key == "iface" && value.ends_with(" static"))
                || key.starts_with("config_") && value.starts_with(|c: char| c.is_ascii_digit())
        })
}

/// Keeps cloud-init from the network where it would lose a static address; `given` when `--mac` sets one.
pub(in super::super) fn keep(context: &mut Context<'_>, given: bool) -> Result<()> {
    let root = context.root;
    if !is_active(root) {
        return Ok(());
    }
    let seed = root.is_dir("/var/lib/cloud/seed/nocloud")
        || root.is_dir("/var/lib/cloud/seed/nocloud-net");
    if seed && !given {
        return Ok(());
    }
    if given || !static_files(root).is_empty() {
        let text = "# Written by v2v: the addresses of this guest stay as they are.\nnetwork:\n  config: disabled\n";
        context.recorder.write(OWN, text.as_bytes(), WHY)?;
        context.recorder.warn(
            "cloud-init no longer configures the network of this guest; to give it back, remove \
             /etc/cloud/cloud.cfg.d/99-v2v-network.cfg",
        );
    }
    Ok(())
}
