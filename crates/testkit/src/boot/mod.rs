//! Boots a disk image under QEMU (TCG) and reads its serial console. The image itself is never written (`snapshot=on`).
//!
//! ```no_run
//! # use std::time::Duration; use testkit::{Boot, Bus, Sample};
//! # fn main() -> anyhow::Result<()> {
//! let guest = testkit::sample(Sample::Bios)?;
//! let mut run = Boot::new("out/sample-bios-sda", "qcow2").bus(Bus::Virtio).net_of(&guest).start()?;
//! run.wait_login(Duration::from_secs(300))?;
//! assert!(run.ssh_banner(Duration::from_secs(60))?.starts_with("SSH-2.0"));
//! # Ok(()) }
//! ```

mod running;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

pub use running::Running;

use crate::cmd;
use crate::guest::SampleGuest;
use crate::places::text;

/// What the disks hang on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk on PCI: what a converted guest gets.
    #[default]
    Virtio,
    /// virtio-scsi.
    VirtioScsi,
    /// AHCI.
    Sata,
    /// LSI SAS1068, the guest's mptsas driver.
    LsiSas,
    /// VMware's paravirtual SCSI, the guest's `vmw_pvscsi` driver.
    Pvscsi,
}

/// A PCIe slot whose NIC is called ens192. Slots of PCIe ports have numbers of their own only where ACPI does not number
/// them.
pub(crate) const SLOT_192: [&str; 4] = [
    "-global",
    "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
    "-device",
    "pcie-root-port,id=slot192,slot=192,chassis=1",
];

#[derive(Clone, Debug)]
struct Net {
    ip: Ipv4Addr,
    gateway: Ipv4Addr,
    mac: Option<String>,
    vmware: bool,
}

/// A machine to be started: a builder, `start` makes it run.
#[derive(Clone, Debug)]
pub struct Boot {
    disks: Vec<(PathBuf, String)>,
    bus: Bus,
    uefi: bool,
    net: Option<Net>,
    memory_mib: u32,
    cpus: u32,
    extra: Vec<String>,
}

impl Boot {
    /// A machine with one disk; `format` is QEMU's name of it (`raw`, `qcow2`, `vmdk`).
    pub fn new(disk: impl Into<PathBuf>, format: &str) -> Self {
        let disks = vec![(disk.into(), format.to_owned())];
        Self {
            disks,
            bus: Bus::default(),
            uefi: false,
            net: None,
            memory_mib: 1024,
            cpus: 2,
            extra: Vec::new(),
        }
    }

    /// One more disk after those so far.
    #[must_use]
    pub fn disk(mut self, disk: impl Into<PathBuf>, format: &str) -> Self {
        self.disks.push((disk.into(), format.to_owned()));
        self
    }

    /// What the disks hang on; virtio if not said.
    #[must_use]
    pub fn bus(mut self, bus: Bus) -> Self {
        self.bus = bus;
        self
    }

    /// UEFI firmware with fresh variables (no boot entry), or BIOS.
    #[must_use]
    pub fn firmware(mut self, uefi: bool) -> Self {
        self.uefi = uefi;
        self
    }

    /// A virtio NIC in a /24 of its own, in which `gateway` is the way out and port 22 of `ip` is forwarded to a local port.
    #[must_use]
    pub fn net(mut self, ip: Ipv4Addr, gateway: Ipv4Addr, mac: Option<&str>) -> Self {
        self.net = Some(Net {
            ip,
            gateway,
            mac: mac.map(str::to_owned),
            vmware: false,
        });
        self
    }

    /// Firmware and network of the sample guest. The MAC is the OVF's; where that has none, say the converted domain's by
    /// [`Boot::mac`], since the guest's NIC name hangs on it.
    #[must_use]
    pub fn net_of(self, guest: &SampleGuest) -> Self {
        self.firmware(guest.uefi)
            .net(guest.static_ip, guest.gateway, guest.mac)
    }

    /// The NIC's MAC address; no effect without a network.
    #[must_use]
    pub fn mac(mut self, mac: &str) -> Self {
        if let Some(net) = &mut self.net {
            net.mac = Some(mac.to_owned());
        }
        self
    }

    /// Makes the NIC what VMware gives: vmxnet3 in PCI slot 192, which the guest calls ens192.
    #[must_use]
    pub fn vmware_nic(mut self) -> Self {
        if let Some(net) = &mut self.net {
            net.vmware = true;
        }
        self
    }

    /// Memory in MiB; 1024 if not said.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// One more QEMU argument as it is.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra.push(arg.into());
        self
    }

    /// Starts QEMU.
    pub fn start(&self) -> Result<Running> {
        let scratch = tempfile::Builder::new()
            .prefix("v2v-boot-")
            .tempdir()
            .context("creating a scratch directory")?;
        let mut cmd = cmd::command(
            "qemu-system-x86_64",
            [
                "-machine",
                "q35",
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "qemu64",
            ],
        );
        cmd.args([
            "-m",
            &self.memory_mib.to_string(),
            "-smp",
            &self.cpus.to_string(),
        ]);
        cmd.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ]);
        cmd.args([
            "-object",
            "rng-random,id=rng0,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=rng0",
        ]);
        if self.uefi {
            let (code, vars) = ovmf()?;
            let own_vars = scratch.path().join("vars.fd");
            fs::copy(&vars, &own_vars).with_context(|| format!("copying {}", vars.display()))?;
            cmd.args([
                "-drive",
                &format!(
                    "if=pflash,unit=0,format=raw,readonly=on,file={}",
                    text(&code)?
                ),
            ]);
            cmd.args([
                "-drive",
                &format!("if=pflash,unit=1,format=raw,file={}", text(&own_vars)?),
            ]);
        }
        cmd.args(self.disk_args()?);
        let ssh_port = match &self.net {
            Some(net) => {
                let port = free_port()?;
                cmd.args(net.args(port));
                Some(port)
            }
            None => None,
        };
        cmd.args(&self.extra);
        cmd.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::spawn(cmd, ssh_port, scratch)
    }

    fn disk_args(&self) -> Result<Vec<String>> {
        let controller = match self.bus {
            Bus::VirtioScsi => Some("virtio-scsi-pci,id=hba"),
            Bus::LsiSas => Some("mptsas1068,id=hba"),
            Bus::Pvscsi => Some("pvscsi,id=hba"),
            Bus::Virtio | Bus::Sata => None,
        };
        let mut args: Vec<String> = controller
            .map(|device| ["-device".to_owned(), device.to_owned()])
            .into_iter()
            .flatten()
            .collect();
        for (number, (path, format)) in self.disks.iter().enumerate() {
            let drive = format!(
                "if=none,id=d{number},format={format},snapshot=on,file={}",
                text(path)?
            );
            let device = match self.bus {
                Bus::Virtio => "virtio-blk-pci".to_owned(),
                Bus::Sata => format!("ide-hd,bus=ide.{number}"),
                Bus::VirtioScsi | Bus::Pvscsi => format!("scsi-hd,bus=hba.0,scsi-id={number}"),
                // A SAS disk is found by its address.
                Bus::LsiSas => format!(
                    "scsi-hd,bus=hba.0,scsi-id={number},wwn={:#x}",
                    0x5000_c500_0000_0001_u64 + number as u64
                ),
            };
            args.extend(["-drive".to_owned(), drive]);
            args.extend([
                "-device".to_owned(),
                format!("{device},drive=d{number},bootindex={number}"),
            ]);
        }
        Ok(args)
    }
}

impl Net {
    fn args(&self, ssh_port: u16) -> Vec<String> {
        let [a, b, c, _] = self.gateway.octets();
        let netdev = format!(
            "user,id=n0,net={a}.{b}.{c}.0/24,host={},hostfwd=tcp:127.0.0.1:{ssh_port}-{}:22",
            self.gateway, self.ip
        );
        let mut args = vec!["-netdev".to_owned(), netdev];
        let mac = self
            .mac
            .as_ref()
            .map_or(String::new(), |mac| format!(",mac={mac}"));
        if self.vmware {
            args.extend(SLOT_192.map(str::to_owned));
            args.extend([
                "-device".to_owned(),
                format!("vmxnet3,netdev=n0,bus=slot192{mac}"),
            ]);
        } else {
            args.extend([
                "-device".to_owned(),
                format!("virtio-net-pci,netdev=n0,romfile={mac}"),
            ]);
        }
        args
    }
}

/// Code and variable template of the firmware; Debian 13 has only the 4 MiB build.
fn ovmf() -> Result<(PathBuf, PathBuf)> {
    let dir = PathBuf::from("/usr/share/OVMF");
    for (code, vars) in [
        ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
        ("OVMF_CODE.fd", "OVMF_VARS.fd"),
    ] {
        if dir.join(code).is_file() && dir.join(vars).is_file() {
            return Ok((dir.join(code), dir.join(vars)));
        }
    }
    bail!(
        "no OVMF firmware in {}: install the package ovmf",
        dir.display()
    )
}

/// A local TCP port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("finding a free port")?;
    Ok(listener.local_addr().context("finding a free port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_own_address_is_forwarded() {
        let boot = Boot::new("/x", "raw")
            .net(Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(10, 1, 2, 1), None)
            .mac("52:54:00:00:00:01");
        let args = boot.net.unwrap().args(4022).join(" ");
        assert!(
            args.contains("net=10.1.2.0/24,host=10.1.2.1,hostfwd=tcp:127.0.0.1:4022-10.1.2.3:22"),
            "{args}"
        );
        assert!(
            args.ends_with("virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:00:00:01"),
            "{args}"
        );
    }

    #[test]
    fn a_path_that_would_change_the_options_is_refused() {
        let err = Boot::new("/tmp/a,readonly=off", "raw")
            .disk_args()
            .unwrap_err();
        assert!(err.to_string().contains("a,readonly=off"));
    }
}
