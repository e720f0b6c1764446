//! `--mac MAC:ip:…`: static addresses, written the way in which the guest configures its network.

use std::fmt::Display;
use std::net::IpAddr;

use types::{MacAddr, StaticIp};

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::managers::{
    cloud_init, connman, dhcpcd, etcnet, ifcfg, ifupdown, keyfile, netctl, netifrc, netplan,
    networkd, wicked,
};

pub(super) const WHY: &str = "the address given with --mac";

/// What is asked for one adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) mac: MacAddr,
    /// Its interface name, where one is known.
    pub(super) name: Option<String>,
    pub(super) addresses: Vec<StaticIp>,
}

impl Wish {
    /// The MAC without colons, for names of files.
    pub(super) fn id(&self) -> String {
        self.mac.to_string().replace(':', "")
    }
}

/// What configures the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Netplan,
    /// NetworkManager.
    Nm,
    Ifupdown,
    Networkd,
    Ifcfg,
    Wicked,
    Netifrc,
    Netctl,
    Dhcpcd,
    Connman,
    Etcnet,
}

pub(super) fn apply(context: &mut Context<'_>) -> Result<()> {
    let wishes = wishes(context);
    if wishes.is_empty() {
        return cloud_init::keep(context, false);
    }
    let mut given = false;
    for wish in &wishes {
        if !context
            .options
            .nics
            .iter()
            .any(|nic| nic.mac == Some(wish.mac))
        {
            context
                .recorder
                .warn(format!("--mac {}: no adapter has this address", wish.mac));
            context
                .recorder
                .skip(format!("no adapter has the MAC {}", wish.mac));
            continue;
        }
        let port_of = context
            .network
            .found
            .port_of(wish.name.as_deref(), wish.mac);
        if let Some(of) = port_of.map(str::to_owned) {
            refuse(
                context,
                wish,
                &format!("it is a port of {of}, which has the address; set it there"),
            );
            continue;
        }
        let Some(manager) = manager(context.root, context, wish) else {
            refuse(
                context,
                wish,
                "nothing that configures the network was found in the guest",
            );
            continue;
        };
        given |= set(context, manager, wish)?;
    }
    cloud_init::keep(context, given)
}

fn refuse(context: &mut Context<'_>, wish: &Wish, why: &str) {
    let message = format!("the --mac address of {} is not set: {why}", wish.mac);
    context.recorder.warn(message.as_str());
    context.recorder.skip(message);
}

fn wishes(context: &Context<'_>) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = Vec::new();
    for address in &context.options.static_ips {
        match wishes.iter_mut().find(|wish| wish.mac == address.mac) {
            Some(wish) => wish.addresses.push(address.clone()),
            None => wishes.push(Wish {
                mac: address.mac,
                name: context.network.name_of(address.mac).map(str::to_owned),
                addresses: vec![address.clone()],
            }),
        }
    }
    wishes
}

/// False when the way of configuring needs a name and none is known.
fn set(context: &mut Context<'_>, manager: Manager, wish: &Wish) -> Result<bool> {
    match (manager, wish.name.clone()) {
        (Manager::Netplan, _) => netplan::set_address(context, wish)?,
        (Manager::Nm, _) => keyfile::set_address(context, wish)?,
        (Manager::Connman, _) => connman::set_address(context, wish)?,
        (Manager::Networkd, _) => {
            networkd::set_address(context, wish)?;
            if !is_enabled(context.root, "systemd-resolved") {
                resolv_conf(context, wish)?;
            }
        }
        (Manager::Ifupdown, Some(name)) => {
            ifupdown::set_address(context, wish, &name)?;
            let resolvconf = ["/sbin/resolvconf", "/usr/sbin/resolvconf"];
            if !resolvconf.iter().any(|path| context.root.exists(path)) {
                resolv_conf(context, wish)?;
            }
        }
        (Manager::Ifcfg, Some(name)) => ifcfg::set_address(context, wish, &name)?,
        (Manager::Wicked, Some(name)) => wicked::set_address(context, wish, &name)?,
        (Manager::Netifrc, Some(name)) => netifrc::set_address(context, wish, &name)?,
        (Manager::Netctl, Some(name)) => netctl::set_address(context, wish, &name)?,
        (Manager::Dhcpcd, Some(name)) => dhcpcd::set_address(context, wish, &name)?,
        (Manager::Etcnet, Some(name)) => etcnet::set_address(context, wish, &name)?,
        (_, None) => {
            refuse(context, wish, "no interface name is known for it");
            return Ok(false);
        }
    }
    Ok(true)
}

/// The manager that has this adapter now.
fn manager(root: &Root, context: &Context<'_>, wish: &Wish) -> Option<Manager> {
    let any = |paths: &[&str]| paths.iter().any(|path| root.exists(path));
    let mentioned = |start: &str| {
        let mut entries = context.network.found.entries.iter();
        entries.any(|entry| {
            entry.file.starts_with(start) && wish.name.is_some() && entry.name == wish.name
        })
    };
    let yaml = root
        .names("/etc/netplan")
        .iter()
        .any(|name| name.ends_with(".yaml"));
    let netplan = any(&[
        "/usr/sbin/netplan",
        "/lib/netplan/generate",
        "/usr/libexec/netplan/generate",
    ]);
    let has_ifup = any(&["/sbin/ifup", "/usr/sbin/ifup"]);
    let has_nm = any(&["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"]);
    let ifupdown = has_ifup && root.is_file(ifupdown::INTERFACES);
    let candidates = [
        (Manager::Netplan, yaml && netplan),
        // NetworkManager leaves alone what is in this file (NetworkManager.conf(5), ifupdown).
        (Manager::Ifupdown, ifupdown && mentioned("/etc/network/")),
        (Manager::Ifcfg, ifcfg::existing(context, wish).is_some()),
        (Manager::Nm, has_nm && is_enabled(root, "NetworkManager")),
        (
            Manager::Wicked,
            root.is_file("/etc/sysconfig/network/config"),
        ),
        (Manager::Networkd, is_enabled(root, "systemd-networkd")),
        (Manager::Etcnet, root.is_dir(etcnet::DIR)),
        (Manager::Netctl, any(&["/usr/bin/netctl"])),
        (Manager::Netifrc, any(&["/etc/init.d/net.lo"])),
        (Manager::Connman, is_enabled(root, "connman")),
        (Manager::Ifupdown, ifupdown),
        (Manager::Ifcfg, root.is_dir(ifcfg::REDHAT)),
        (
            Manager::Dhcpcd,
            any(&["/usr/sbin/dhcpcd", "/usr/bin/dhcpcd", "/sbin/dhcpcd"]),
        ),
        (Manager::Nm, has_nm),
    ];
    candidates
        .into_iter()
        .find(|(_, there)| *there)
        .map(|(manager, _)| manager)
}

/// True when a service starts by itself: of systemd, OpenRC, runit or System V.
fn is_enabled(root: &Root, service: &str) -> bool {
    let there = |path: String| root.link_meta(&path).is_ok();
    let units = [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    let wants = [
        "multi-user.target.wants",
        "network-online.target.wants",
        "sysinit.target.wants",
        "network.target.wants",
        "graphical.target.wants",
        "sockets.target.wants",
    ];
    let unit = units.iter().any(|dir| {
        wants
            .iter()
            .any(|wants| there(format!("{dir}/{wants}/{service}.service")))
    });
    let openrc = ["boot", "default"]
        .iter()
        .any(|level| there(format!("/etc/runlevels/{level}/{service}")));
    let runit = there(format!("/etc/runit/runsvdir/default/{service}"))
        || there(format!("/var/service/{service}"));
    let sysv = ["/etc/rc3.d", "/etc/rc2.d", "/etc/rc.d/rc3.d"]
        .iter()
        .any(|dir| {
            let names = root.names(dir);
            names.iter().any(|name| {
                let plain = name
                    .trim_start_matches('S')
                    .trim_start_matches(|c: char| c.is_ascii_digit());
                name.starts_with('S') && plain.eq_ignore_ascii_case(service)
            })
        });
    unit || openrc || runit || sysv
}

/// Name servers, where nothing else writes them and the file is one of the guest's own.
fn resolv_conf(context: &mut Context<'_>, wish: &Wish) -> Result<()> {
    const PATH: &str = "/etc/resolv.conf";
    let servers = name_servers(&wish.addresses);
    let is_file = context
        .root
        .link_meta(PATH)
        .is_ok_and(|meta| meta.kind == crate::root::Kind::File);
    if servers.is_empty() || !is_file {
        return Ok(());
    }
    let lines: Vec<String> = servers
        .iter()
        .map(|server| format!("nameserver {server}"))
        .collect();
    context.recorder.edit(PATH, WHY, |text| {
        let old = |line: &str| line.split_whitespace().next() == Some("nameserver");
        let have: Vec<&str> = text
            .lines()
            .filter(|line| old(line))
            .map(str::trim)
            .collect();
        if have == lines {
            return None;
        }
        let mut new: String = text
            .split_inclusive('\n')
            .filter(|line| !old(line))
            .collect();
        if !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        Some(format!("{new}{}\n", lines.join("\n")))
    })?;
    Ok(())
}

/// Length of the prefix; without one, the address stands for itself.
pub(super) fn prefix(address: &StaticIp) -> u8 {
    address
        .prefix_len
        .unwrap_or(if address.address.is_ipv4() { 32 } else { 128 })
}

pub(super) fn join_ips(ips: &[impl Display], separator: &str) -> String {
    ips.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(separator)
}

/// Name servers of all addresses, each once.
pub(super) fn name_servers(all: &[StaticIp]) -> Vec<IpAddr> {
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in all.iter().flat_map(|address| &address.nameservers) {
        if !servers.contains(server) {
            servers.push(*server);
        }
    }
    servers
}
