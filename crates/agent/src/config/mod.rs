//! What is to be sent, to whom, under which name: from the kernel command line, from options, from the TUI.

mod dump;
mod network;
mod target;
#[cfg(test)]
mod tests;
mod words;

use std::net::IpAddr;

use wire::join::{Fingerprint, JoinString, Secret};

pub use target::Target;
pub use words::split_command_line;

/// Everything that can be decided before the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `p2v.join=`: server, fingerprint and secret in one.
    pub join: Option<JoinString>,
    /// `p2v.server=ADDR[:PORT]`, or typed; goes before the addresses of `join`.
    pub server: Option<String>,
    /// `p2v.fingerprint=`, or confirmed by a person.
    pub fingerprint: Option<Fingerprint>,
    /// `p2v.code=`, or typed.
    pub code: Option<Secret>,
    /// `p2v.name=`: name of the guest.
    pub name: Option<String>,
    /// `p2v.disks=sda,nvme0n1`; `None`: all that are not left out.
    pub disks: Option<Vec<String>>,
    /// `p2v.removable=sr0`; `None`: all.
    pub removables: Option<Vec<String>>,
    /// `p2v.interfaces=em1,eth1`; `None`: all.
    pub interfaces: Option<Vec<String>>,
    /// `p2v.network=em1:wired,other`.
    pub networks: Vec<NetworkMap>,
    /// `p2v.memory=4G`: in bytes.
    pub memory_bytes: Option<u64>,
    /// `p2v.vcpu.cores=`: virtual CPUs.
    pub vcpus: Option<u32>,
    /// `p2v.vcpu.phys_topo`.
    pub physical_topology: bool,
    /// `p2v.cpu.*`.
    pub cpu: CpuConfig,
    /// `p2v.rtc.*`.
    pub rtc: RtcConfig,
    /// `p2v.o=`, `p2v.os=`, `p2v.of=`, `p2v.oc=`, `p2v.oa=`, `p2v.on=`, `p2v.oo=`: name without the prefix, and value.
    pub output: Vec<(String, String)>,
    /// `p2v.resync`: send only what changed since the last run.
    pub resync: bool,
    /// `p2v.skip_test_connection`.
    pub skip_test_connection: bool,
    /// `p2v.post=`: what is done after success; unattended machines power off unless told otherwise.
    pub post: Post,
    /// `p2v.fail=`: what is done after a failure.
    pub fail: Post,
    /// `ip=`, `vlan=`, `bond=`: one for each interface to set up; empty: DHCP on every interface with a link.
    pub network: Vec<InterfaceConfig>,
    /// `p2v.auto`, or a join string or server with what is needed on the command line: nobody is asked.
    pub unattended: bool,
    /// `p2v.dump_config_and_exit`.
    pub dump_config_and_exit: bool,
    /// Words that begin with `p2v.` and were not understood, and what is wrong with them, one line each.
    pub problems: Vec<String>,
}

/// One item of `p2v.network=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkMap {
    /// Interface; `None` for all others.
    pub interface: Option<String>,
    /// Network of the target.
    pub network: String,
}

/// `p2v.cpu.*`; `None`: as the machine has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuConfig {
    /// `p2v.cpu.vendor=`.
    pub vendor: Option<String>,
    /// `p2v.cpu.model=`.
    pub model: Option<String>,
    /// `p2v.cpu.acpi`.
    pub acpi: Option<bool>,
    /// `p2v.cpu.apic`.
    pub apic: Option<bool>,
    /// `p2v.cpu.pae`.
    pub pae: Option<bool>,
}

/// `p2v.rtc.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtcConfig {
    /// `p2v.rtc.basis=utc|localtime`.
    pub basis: Option<String>,
    /// `p2v.rtc.offset=SECONDS`.
    pub offset_seconds: Option<i64>,
}

/// What the agent does when it is through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Post {
    /// Stay and show the result.
    #[default]
    Stay,
    /// Power off.
    Poweroff,
    /// Reboot.
    Reboot,
    /// A shell on the console.
    Shell,
}

/// How one interface of the agent's system is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Kernel name or `MAC`; `None`: the first with a link.
    pub interface: Option<String>,
    /// Address, or DHCP.
    pub address: Addressing,
    /// 802.1Q tag, 1 to 4094.
    pub vlan: Option<u16>,
    /// The interface is a bond of these.
    pub bond: Option<BondConfig>,
}

/// Where an interface gets its address from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// DHCPv4, and IPv6 by router advertisements.
    Dhcp,
    /// `ip=ADDR::GW:MASK:HOST:IF:DNS`.
    Static {
        /// Address.
        address: IpAddr,
        /// Bits of the network.
        prefix_len: u8,
        /// Default gateway.
        gateway: Option<IpAddr>,
        /// Name servers.
        dns: Vec<IpAddr>,
        /// Host name, for people.
        hostname: Option<String>,
    },
}

/// `bond=NAME:PORT,PORT:OPTION=VALUE,…` as dracut has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BondConfig {
    /// Kernel names of its ports.
    pub ports: Vec<String>,
    /// active-backup, 802.3ad, …; the kernel's default if empty.
    pub mode: String,
    /// Further options: name and value.
    pub options: Vec<(String, String)>,
}
