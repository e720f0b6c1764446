//! What this machine is: hardware and what its disks hold, from sysfs, procfs and the disks themselves. Nothing is
//! mounted or assembled, nothing is written.
//!
//! ```text
//! block (kernel's devices) ─> identity ─> compose (arrays, paths) ─┐
//!                    read ─> table, superblock ─> contents ────────┼─> disks (order, health) ─┐
//!                                              edd, efivars ───────┘                          ├─> Inventory
//! net_names, netlink ─> nics      smbios ─> memory      cpu, platform, clock, guesses, concerns┘
//! ```
//!
//! All of it is hostile: a disk may have been made to break its reader. Every read is capped, all arithmetic checked.

mod block;
mod clock;
mod compose;
mod concerns;
mod contents;
mod cpu;
mod disks;
mod edd;
mod efivars;
mod guesses;
mod identity;
mod medium;
mod net_names;
mod netlink;
mod nics;
mod platform;
mod read;
mod smart;
mod smbios;
mod superblock;
mod sysfs;
mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use wire::inventory::{Bus, Disk, DiskKind, Dmi, Inventory, Nic};

/// Where everything is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// /sys.
    pub sys: PathBuf,
    /// /proc.
    pub proc: PathBuf,
    /// /dev.
    pub dev: PathBuf,
    /// /run.
    pub run: PathBuf,
    /// Folders in which programs (smartctl) are looked for.
    pub programs: Vec<PathBuf>,
    /// The running kernel may be asked, too, for what it shows nowhere in files: addresses of interfaces.
    pub live: bool,
}

impl Default for Paths {
    fn default() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
            run: "/run".into(),
            programs: std::env::split_paths(&path).chain(administrators).collect(),
            live: true,
        }
    }
}

impl Paths {
    /// The same folders below another root, programs in its `bin`; the running kernel is not asked.
    pub fn below(root: &Path) -> Self {
        Self {
            sys: root.join("sys"),
            proc: root.join("proc"),
            dev: root.join("dev"),
            run: root.join("run"),
            programs: vec![root.join("bin")],
            live: false,
        }
    }

    fn real_sys(&self) -> PathBuf {
        sysfs::real(&self.sys).unwrap_or_else(|| self.sys.clone())
    }
}

/// Everything that can be found out about this machine. Takes as long as its slowest disk, a minute at most.
pub fn detect(paths: &Paths) -> Inventory {
    let firmware = efivars::firmware(paths);
    let found = disks::detect(paths, &firmware);
    let dmi = platform::dmi(paths);
    let nics = network_interfaces(paths);
    let os_guesses = guesses::guesses(paths, &firmware, &found);
    let concerns = concerns::concerns(paths, &firmware, &found);
    let clock = clock::clock(paths, &os_guesses);
    let disks: Vec<Disk> = found.into_iter().map(|found| found.disk).collect();
    Inventory {
        machine_id: machine_id(&dmi, &nics, &disks),
        cpu: Some(cpu::cpu(paths)),
        memory_bytes: platform::memory_bytes(paths),
        removables: platform::removables(paths),
        clock: Some(clock),
        os_guesses,
        kernel_release: platform::kernel_release(paths),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        concerns,
        numa_nodes: platform::numa_nodes(paths),
        tpm_version: platform::tpm_version(paths),
        sound: platform::sound(paths),
        dmi: Some(dmi),
        firmware: Some(firmware),
        disks,
        nics,
    }
}

/// The network adapters of the machine, in the order of their places.
pub fn network_interfaces(paths: &Paths) -> Vec<Nic> {
    nics::nics(paths)
}

/// What stays the same over a reset. Sorted, because the order of detection may change; disks that came by USB or are
/// paths or parts of others do not count.
fn machine_id(dmi: &Dmi, nics: &[Nic], disks: &[Disk]) -> Vec<u8> {
    let mut facts: Vec<String> = nics.iter().map(|nic| format!("mac {}", nic.mac)).collect();
    let fixed = disks.iter().filter(|disk| {
        !disk.removable
            && disk.bus() != Bus::Usb
            && disk.kind() != DiskKind::File
            && disk.left_out.is_empty()
    });
    facts.extend(fixed.map(|disk| format!("disk {} {}", disk.virtual_size, disk.serial)));
    facts.sort();
    facts.dedup();
    facts.push(format!("uuid {}", dmi.product_uuid));
    facts.push(format!("serial {}", dmi.product_serial));
    let mut hasher = blake3::Hasher::new();
    for fact in facts {
        // No fact contains a zero byte: control characters were taken out.
        hasher.update(fact.as_bytes());
        hasher.update(&[0]);
    }
    hasher.finalize().as_bytes().to_vec()
}
