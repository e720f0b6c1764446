//! `p2v.dump_config_and_exit`: what was understood, one `key = value` a line. The lines are stable; scripts read them.
//! Secrets are not in it.

use std::fmt::{Display, Write};

use super::{Addressing, Config, InterfaceConfig, Post};

impl Config {
    /// Lines `key = value`, each with a newline; only what was given.
    pub fn dump(&self) -> String {
        let mut out = Lines::default();
        for address in self.addresses() {
            out.put("server", address);
        }
        let joined = self.join.as_ref().map(|join| join.fingerprint);
        out.some("fingerprint", self.fingerprint.or(joined));
        let code = self.code.is_some() || self.join.is_some();
        out.put("code", if code { "given" } else { "missing" });
        out.put("unattended", self.unattended);
        out.some("name", self.name.as_ref());
        out.list("disks", self.disks.as_ref());
        out.list("removable", self.removables.as_ref());
        out.list("interfaces", self.interfaces.as_ref());
        for map in &self.networks {
            let interface = map.interface.as_deref().unwrap_or("*");
            out.put("network", format_args!("{interface}:{}", map.network));
        }
        out.some("memory_bytes", self.memory_bytes);
        out.some("vcpu.cores", self.vcpus);
        out.put("vcpu.phys_topo", self.physical_topology);
        out.some("cpu.vendor", self.cpu.vendor.as_ref());
        out.some("cpu.model", self.cpu.model.as_ref());
        out.some("cpu.acpi", self.cpu.acpi);
        out.some("cpu.apic", self.cpu.apic);
        out.some("cpu.pae", self.cpu.pae);
        out.some("rtc.basis", self.rtc.basis.as_ref());
        out.some("rtc.offset", self.rtc.offset_seconds);
        for (name, value) in &self.output {
            out.put(name, value);
        }
        out.put("resync", self.resync);
        out.put("skip_test_connection", self.skip_test_connection);
        out.put("post", post(self.post));
        out.put("fail", post(self.fail));
        for interface in &self.network {
            out.put("ip", ip(interface));
        }
        for problem in &self.problems {
            out.put("problem", problem);
        }
        out.0
    }
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn put(&mut self, key: &str, value: impl Display) {
        // What was given may hold line ends; a line stays a line.
        let value = value.to_string().replace(['\n', '\r'], " ");
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn list(&mut self, key: &str, items: Option<&Vec<String>>) {
        self.some(key, items.map(|items| items.join(",")));
    }
}

fn post(post: Post) -> &'static str {
    match post {
        Post::Stay => "wait",
        Post::Poweroff => "poweroff",
        Post::Reboot => "reboot",
        Post::Shell => "shell",
    }
}

fn ip(interface: &InterfaceConfig) -> String {
    let mut out = interface.interface.clone().unwrap_or_else(|| "*".into());
    if let Some(vlan) = interface.vlan {
        let _ = write!(out, " vlan {vlan}");
    }
    if let Some(bond) = &interface.bond {
        let _ = write!(out, " bond of {} mode {}", bond.ports.join(","), bond.mode);
        for (name, value) in &bond.options {
            let _ = write!(out, " {name}={value}");
        }
    }
    match &interface.address {
        Addressing::Dhcp => out.push_str(" dhcp"),
        Addressing::Static {
            address,
            prefix_len,
            gateway,
            dns,
            hostname,
        } => {
            let _ = write!(out, " {address}/{prefix_len}");
            if let Some(gateway) = gateway {
                let _ = write!(out, " via {gateway}");
            }
            for server in dns {
                let _ = write!(out, " dns {server}");
            }
            if let Some(hostname) = hostname {
                let _ = write!(out, " host {hostname}");
            }
        }
    }
    out
}
