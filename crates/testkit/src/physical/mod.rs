//! A "physical machine": QEMU (TCG) with the hardware that servers have and nothing of virtio. It boots from a CD or a
//! USB stick or from its own disks; its serial console is text, its power and reset button are QMP's.
//!
//! ```no_run
//! # use testkit::physical::{Firmware, Medium, PhysicalMachine, Storage};
//! # fn main() -> anyhow::Result<()> {
//! let mut machine = PhysicalMachine::new("disk.raw", Storage::Nvme)
//!     .firmware(Firmware::SecureBoot)
//!     .medium(Medium::Cd("my.iso".into()))
//!     .start()?;
//! machine.console.wait_for("p2v", std::time::Duration::from_secs(300))?;
//! machine.reset()?;
//! # Ok(()) }
//! ```
//! The NIC sits in a slot that the installed samples call ens192. User networking: the machine gets an address by DHCP,
//! and the loopback of the host is 10.0.2.2.

mod qmp;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tempfile::TempDir;

use crate::boot::{Running, SLOT_192, free_port};
use crate::cmd;
use crate::places::text;
use qmp::Qmp;

/// The host's loopback as the machine sees it (QEMU's user networking, option `host`).
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The machine's MAC address unless another is given.
pub const MAC: &str = "00:50:56:9a:2c:77";
/// Memory of the machine: the agent's system is an initramfs that unpacks into it.
const MEMORY_MIB: u32 = 1024;
/// `EIO` of errno(3), what an unreadable sector gives.
const EIO: u32 = 5;
const OVMF: &str = "/usr/share/OVMF";

/// What the disks hang on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// SATA on AHCI.
    Ahci,
    /// One NVMe controller for each disk.
    Nvme,
    /// PIIX3's parallel ATA: at most four disks.
    Ide,
}

/// What starts the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// `SeaBIOS`.
    #[default]
    Bios,
    /// OVMF with fresh variables.
    Uefi,
    /// OVMF that refuses what Microsoft's keys do not vouch for.
    SecureBoot,
}

/// What the machine boots from before its disks.
#[derive(Clone, Debug)]
pub enum Medium {
    /// An ISO in a CD drive.
    Cd(PathBuf),
    /// The same file written to a USB stick.
    UsbStick(PathBuf),
}

#[derive(Clone, Debug)]
struct Disk {
    path: PathBuf,
    format: String,
    serial: String,
    /// Sectors of 512 bytes that cannot be read.
    bad_sectors: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Net {
    ip: Ipv4Addr,
    gateway: Ipv4Addr,
}

/// A machine to be started: a builder, `start` switches it on. Disks are never written (`snapshot=on`).
#[derive(Clone, Debug)]
pub struct PhysicalMachine {
    disks: Vec<Disk>,
    storage: Storage,
    firmware: Firmware,
    medium: Option<Medium>,
    mac: String,
    net: Option<Net>,
    smbios: Vec<(String, String)>,
    rtc: Option<String>,
    memory_mib: u32,
    extra: Vec<String>,
}

impl PhysicalMachine {
    /// A machine with one raw disk.
    pub fn new(disk: impl Into<PathBuf>, storage: Storage) -> Self {
        let machine = Self {
            disks: Vec::new(),
            storage,
            firmware: Firmware::default(),
            medium: None,
            mac: MAC.to_owned(),
            net: None,
            smbios: Vec::new(),
            rtc: None,
            memory_mib: MEMORY_MIB,
            extra: Vec::new(),
        };
        machine.disk(disk, "raw")
    }

    /// One more disk after those so far; `format` is QEMU's name of it. Its serial is `RIG-DISK-N`.
    #[must_use]
    pub fn disk(mut self, disk: impl Into<PathBuf>, format: &str) -> Self {
        let serial = format!("RIG-DISK-{}", self.disks.len());
        self.disks.push(Disk {
            path: disk.into(),
            format: format.to_owned(),
            serial,
            bad_sectors: Vec::new(),
        });
        self
    }

    /// These sectors of 512 bytes of the last disk so far cannot be read.
    #[must_use]
    pub fn bad_sectors(mut self, sectors: impl IntoIterator<Item = u64>) -> Self {
        if let Some(disk) = self.disks.last_mut() {
            disk.bad_sectors.extend(sectors);
        }
        self
    }

    /// BIOS if not said.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// What it boots from; its first disk if not said.
    #[must_use]
    pub fn medium(mut self, medium: Medium) -> Self {
        self.medium = Some(medium);
        self
    }

    /// [`MAC`] if not said.
    #[must_use]
    pub fn mac(mut self, mac: &str) -> Self {
        mac.clone_into(&mut self.mac);
        self
    }

    /// The /24 of an installed system: port 22 of `ip` leads to a local port. Else the network is 10.0.2.0/24 with DHCP.
    #[must_use]
    pub fn net(mut self, ip: Ipv4Addr, gateway: Ipv4Addr) -> Self {
        self.net = Some(Net { ip, gateway });
        self
    }

    /// A field of SMBIOS's system information (type 1): manufacturer, product, serial, uuid, ….
    #[must_use]
    pub fn smbios(mut self, field: &str, value: &str) -> Self {
        self.smbios.push((field.to_owned(), value.to_owned()));
        self
    }

    /// The hardware clock at power-on, `2016-01-01T00:00:00`; now if not said.
    #[must_use]
    pub fn clock(mut self, time: &str) -> Self {
        self.rtc = Some(time.to_owned());
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

    /// Switches it on.
    pub fn start(&self) -> Result<RunningMachine> {
        let scratch = tempfile::Builder::new()
            .prefix("v2v-physical-")
            .tempdir()
            .context("creating a scratch directory")?;
        let socket = scratch.path().join("qmp");
        let ssh_port = self.net.map(|_| free_port()).transpose()?;
        let mut cmd = cmd::command("qemu-system-x86_64", self.args(scratch.path(), ssh_port)?);
        cmd.args([
            "-qmp",
            &format!("unix:{},server=on,wait=off", text(&socket)?),
        ]);
        cmd.args(&self.extra);
        cmd.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let console = Running::spawn(cmd, ssh_port, TempDir::new()?)?;
        Ok(RunningMachine {
            console,
            socket,
            _scratch: scratch,
        })
    }

    fn args(&self, scratch: &Path, ssh_port: Option<u16>) -> Result<Vec<String>> {
        let machine = match self.firmware {
            Firmware::SecureBoot => "q35,smm=on",
            Firmware::Bios | Firmware::Uefi => "q35",
        };
        let memory = self.memory_mib.to_string();
        let mut args = words(&["-machine", machine, "-accel", "tcg,thread=multi"]);
        args.extend(words(&["-cpu", "qemu64", "-smp", "2", "-m", &memory]));
        args.extend(words(&["-nodefaults", "-no-user-config", "-display"]));
        args.extend(words(&["none", "-device", "VGA", "-serial", "stdio"]));
        args.extend(self.firmware_args(scratch)?);
        args.extend(self.disk_args(scratch)?);
        if let Some(medium) = &self.medium {
            args.extend(medium.args()?);
        }
        args.extend(self.net_args(ssh_port));
        if !self.smbios.is_empty() {
            let fields = self.smbios.iter();
            let fields = fields.map(|(field, value)| format!(",{field}={}", escaped(value)));
            args.push("-smbios".to_owned());
            args.push(format!("type=1{}", fields.collect::<String>()));
        }
        if let Some(time) = &self.rtc {
            args.extend(words(&["-rtc", &format!("base={time}")]));
        }
        Ok(args)
    }

    fn firmware_args(&self, scratch: &Path) -> Result<Vec<String>> {
        let (code, vars) = match self.firmware {
            Firmware::Bios => return Ok(Vec::new()),
            Firmware::Uefi => ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
            Firmware::SecureBoot => ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"),
        };
        let (code, vars) = (Path::new(OVMF).join(code), Path::new(OVMF).join(vars));
        for file in [&code, &vars] {
            if !file.is_file() {
                bail!("no {}: install the package ovmf", file.display());
            }
        }
        let own = scratch.join("vars.fd");
        fs::copy(&vars, &own).with_context(|| format!("copying {}", vars.display()))?;
        let mut args = Vec::new();
        if self.firmware == Firmware::SecureBoot {
            // Only SMM may write the variables, and there is no S3 that would let it forget them (OvmfPkg/README).
            args.extend(words(&[
                "-global",
                "driver=cfi.pflash01,property=secure,value=on",
            ]));
            args.extend(words(&["-global", "ICH9-LPC.disable_s3=1"]));
        }
        let code = format!(
            "if=pflash,unit=0,format=raw,readonly=on,file={}",
            text(&code)?
        );
        let vars = format!("if=pflash,unit=1,format=raw,file={}", text(&own)?);
        args.extend(words(&["-drive", &code, "-drive", &vars]));
        Ok(args)
    }

    fn disk_args(&self, scratch: &Path) -> Result<Vec<String>> {
        let mut args = Vec::new();
        if self.storage == Storage::Ide {
            args.extend(words(&["-device", "piix3-ide,id=pata"]));
        }
        for (number, disk) in self.disks.iter().enumerate() {
            let file = disk.file(scratch, number)?;
            let drive = format!(
                "if=none,id=d{number},format={},snapshot=on,file={file}",
                disk.format
            );
            let device = match self.storage {
                Storage::Ahci => format!("ide-hd,bus=ide.{number}"),
                Storage::Nvme => "nvme".to_owned(),
                Storage::Ide => format!("ide-hd,bus=pata.{},unit={}", number / 2, number % 2),
            };
            let device = format!(
                "{device},drive=d{number},serial={},bootindex={}",
                disk.serial,
                number + 1
            );
            args.extend(words(&["-drive", &drive, "-device", &device]));
        }
        Ok(args)
    }

    fn net_args(&self, ssh_port: Option<u16>) -> Vec<String> {
        let mut netdev = "user,id=n0".to_owned();
        if let (Some(net), Some(port)) = (self.net, ssh_port) {
            let [a, b, c, _] = net.gateway.octets();
            netdev += &format!(
                ",net={a}.{b}.{c}.0/24,host={},hostfwd=tcp:127.0.0.1:{port}-{}:22",
                net.gateway, net.ip
            );
        }
        let nic = format!("e1000e,netdev=n0,bus=slot192,romfile=,mac={}", self.mac);
        let mut args = words(&SLOT_192);
        args.extend(words(&["-netdev", &netdev, "-device", &nic]));
        args
    }
}

impl Disk {
    /// QEMU's name of the file, behind blkdebug where it has bad sectors.
    fn file(&self, scratch: &Path, number: usize) -> Result<String> {
        let path = text(&self.path)?;
        if self.bad_sectors.is_empty() {
            return Ok(path.to_owned());
        }
        let rules = scratch.join(format!("bad-{number}.conf"));
        fs::write(&rules, read_errors(&self.bad_sectors))
            .with_context(|| format!("writing {}", rules.display()))?;
        Ok(format!("blkdebug:{}:{path}", text(&rules)?))
    }
}

/// blkdebug's configuration (QEMU, docs/devel/testing/blkdebug.rst): every read that touches one of these sectors fails,
/// as often as it is tried.
fn read_errors(sectors: &[u64]) -> String {
    let rule = |sector: &u64| {
        format!(
            "[inject-error]\nevent = \"read_aio\"\niotype = \"read\"\nerrno = \"{EIO}\"\nsector = \"{sector}\"\n\
             once = \"off\"\nimmediately = \"off\"\n\n"
        )
    };
    sectors.iter().map(rule).collect()
}

impl Medium {
    fn args(&self) -> Result<Vec<String>> {
        Ok(match self {
            Self::Cd(path) => {
                let drive = format!(
                    "if=none,id=cd,media=cdrom,readonly=on,format=raw,file={}",
                    text(path)?
                );
                words(&[
                    "-drive",
                    &drive,
                    "-device",
                    "ide-cd,bus=ide.5,drive=cd,bootindex=0",
                ])
            }
            Self::UsbStick(path) => {
                let drive = format!("if=none,id=usb,format=raw,snapshot=on,file={}", text(path)?);
                let stick = "usb-storage,bus=xhci.0,drive=usb,removable=on,bootindex=0";
                words(&[
                    "-drive",
                    &drive,
                    "-device",
                    "qemu-xhci,id=xhci",
                    "-device",
                    stick,
                ])
            }
        })
    }
}

/// A machine that is on until it is dropped.
#[derive(Debug)]
pub struct RunningMachine {
    /// Serial console, SSH, end.
    pub console: Running,
    socket: PathBuf,
    _scratch: TempDir,
}

impl RunningMachine {
    /// The reset button.
    pub fn reset(&self) -> Result<()> {
        self.qmp("system_reset", &json!({})).map(drop)
    }

    /// The power button, pressed shortly.
    pub fn press_power(&self) -> Result<()> {
        self.qmp("system_powerdown", &json!({})).map(drop)
    }

    /// Presses keys on the keyboard together; QEMU's names of them: `tab`, `ret`, `a`, `shift`.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| json!({"type": "qcode", "data": key}))
            .collect();
        self.qmp("send-key", &json!({"keys": keys})).map(drop)
    }

    /// The picture on the screen as a PNG.
    pub fn screenshot(&self, to: &Path) -> Result<()> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let arguments = json!({"filename": text(to)?, "format": "png"});
        self.qmp("screendump", &arguments).map(drop)
    }

    /// Pulls the network cable, or plugs it in again.
    pub fn plug_network(&self, up: bool) -> Result<()> {
        self.qmp("set_link", &json!({"name": "n0", "up": up}))
            .map(drop)
    }

    fn qmp(&self, command: &str, arguments: &serde_json::Value) -> Result<serde_json::Value> {
        Qmp::connect(&self.socket)?.execute(command, arguments)
    }
}

/// A comma within a value is doubled (QEMU's option syntax).
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guest::{Sample, sample};

    #[test]
    fn nothing_of_virtio_is_in_the_machine() {
        let scratch = tempfile::tempdir().unwrap();
        for storage in [Storage::Ahci, Storage::Nvme, Storage::Ide] {
            let machine = PhysicalMachine::new("/a", storage)
                .disk("/b", "qcow2")
                .bad_sectors([7])
                .medium(Medium::UsbStick("/i".into()))
                .smbios("product", "R1, big")
                .clock("2016-01-01T00:00:00");
            let args = machine.args(scratch.path(), None).unwrap().join(" ");
            assert!(!args.contains("virtio"), "{args}");
            assert!(args.contains("type=1,product=R1,, big"), "{args}");
            assert!(args.contains("file=blkdebug:"), "{args}");
        }
        let rules = fs::read_to_string(scratch.path().join("bad-1.conf")).unwrap();
        assert!(rules.contains("sector = \"7\""), "{rules}");
    }

    #[test]
    fn sectors_become_unreadable() {
        if !crate::require_tool("qemu-img") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk.raw");
        fs::write(&disk, vec![1; 1 << 20]).unwrap();
        let bad = Disk {
            path: disk,
            format: "raw".to_owned(),
            serial: String::new(),
            bad_sectors: vec![100, 2047],
        };
        let file = bad.file(dir.path(), 0).unwrap();
        let read = |sector: u64| {
            let sector = format!("read -q {} 512", sector * 512);
            let args = ["-f", "raw", "-c", &sector, &file];
            cmd::output(&mut cmd::command("qemu-io", args))
        };
        for sector in [99, 101, 0, 2046] {
            read(sector).unwrap();
        }
        // Not only once.
        for sector in [100, 100, 2047] {
            let error = read(sector).unwrap_err().to_string();
            assert!(error.contains("Input/output error"), "{error}");
        }
    }

    #[test]
    fn a_mirror_boots_is_reset_and_boots_again() {
        if !crate::long_story() {
            return;
        }
        if !crate::require_tool("qemu-system-x86_64") || !crate::require_root() {
            return;
        }
        const BOOT: Duration = Duration::from_secs(420);
        let guest = sample(Sample::Md).unwrap();
        let mut machine = PhysicalMachine::new(&guest.raw, Storage::Ahci)
            .disk(guest.mirror.as_ref().unwrap(), "raw")
            .net(guest.static_ip, guest.gateway)
            .smbios("manufacturer", "Rig")
            .clock("2016-01-01T00:00:00")
            .start()
            .unwrap();
        machine.console.wait_for("Loading Linux", BOOT).unwrap();
        machine.reset().unwrap();
        machine.console.send("").unwrap();
        machine.console.wait_login(BOOT).unwrap();
        let banner = machine.console.ssh_banner(BOOT).unwrap();
        assert!(banner.starts_with("SSH-2.0-"), "{banner}");
        machine.console.login(guest.root_password, BOOT).unwrap();
        let facts = "cat /sys/class/dmi/id/sys_vendor /sys/class/rtc/rtc0/date /proc/mdstat; findmnt -no SOURCE /";
        let facts = machine.console.shell(facts, BOOT).unwrap();
        // systemd does not believe such a clock, and sets its own time.
        for fact in ["Rig", "2016-01-01", "active raid1", "[UU]", "/dev/md0"] {
            assert!(facts.contains(fact), "{fact}: {facts}");
        }
        let shot = crate::target_dir().join("screenshots/rig-sample.png");
        machine.screenshot(&shot).unwrap();
        assert!(fs::read(shot).unwrap().starts_with(b"\x89PNG"));
    }
}
