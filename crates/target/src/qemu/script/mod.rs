//! The start script: POSIX shell, for any host that has QEMU. It describes the machine of the domain XML, finds
//! its disks beside itself and the UEFI firmware where the distributions put it, and hands its own arguments on.
//!
//! Left out, because they need a service beside QEMU: the TPM (swtpm), the guest agent's socket, sound.

mod firmware;

use std::fmt::Write;

use image::Preallocation;
use types::{BlockBus, Firmware, MachineType, NetBus};

use crate::domain::devices::{plain_serial, sector_sizes};
use crate::domain::platform::{Drives, Platform, SATA_PORTS, Slot};
use crate::domain::{DomainSpec, clock_basis, smbios, topology, uuid};
use crate::{DomainType, Result};
pub(super) use firmware::nvram;

/// A script as text.
#[derive(Debug)]
pub(crate) struct BuiltScript {
    pub(crate) text: String,
    /// What it starts.
    pub(crate) platform: Platform,
    pub(crate) notes: Vec<String>,
}

/// Writes the script; `files` are the names of the disks beside it.
pub(crate) fn build(spec: &DomainSpec<'_>, files: &[String]) -> Result<BuiltScript> {
    let mut notes = Vec::new();
    let platform = Platform::of(spec, &mut notes)?;
    let drives = Drives::assign(platform, spec.machine, spec.caps, &mut notes);
    if spec.machine.tpm {
        notes.push("the machine had a TPM: the script starts the guest without one".to_owned());
    }
    if clock_basis(spec).1 != 0 {
        // QEMU knows UTC, local time and fixed dates.
        notes.push("the clock offset was left out: QEMU's command line has none".to_owned());
    }
    let mut args = Args::default();
    machine(spec, platform, &mut args);
    disks(spec, platform, &drives, files, &mut args, &mut notes);
    others(spec, platform, &mut args);
    let mut text = head(spec, platform);
    if platform.firmware == Firmware::Uefi {
        text.push_str(&firmware::find(spec.name, platform));
    }
    text.push_str("set -- \\\n");
    for (option, value) in &args.0 {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {option}{}{value} \\",
            if value.is_empty() { "" } else { " " }
        );
    }
    text.push_str("  $display \"$@\"\n\nexec \"$qemu\" \"$@\"\n");
    Ok(BuiltScript {
        text,
        platform,
        notes,
    })
}

/// Options with their values as shell words.
#[derive(Debug, Default)]
struct Args(Vec<(&'static str, String)>);

impl Args {
    /// An option whose value is plain text.
    fn plain(&mut self, option: &'static str, value: &str) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_=,.:/".contains(&b);
        let word = if value.bytes().all(plain) {
            value.to_owned()
        } else {
            quote(value)
        };
        self.0.push((option, word));
    }

    /// An option whose value is a shell word already.
    fn word(&mut self, option: &'static str, word: String) {
        self.0.push((option, word));
    }
}

/// One shell word, whatever the text holds.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A comma ends a value in QEMU's options; two stand for one.
fn commas(text: &str) -> String {
    text.replace(',', ",,")
}

fn head(spec: &DomainSpec<'_>, platform: Platform) -> String {
    let accel = match spec.domain_type {
        DomainType::Kvm => "kvm:tcg",
        DomainType::Qemu => "tcg",
    };
    format!(
        r#"#!/bin/sh
# Starts the guest {name} in QEMU. Arguments of this script are handed on to QEMU.
#   V2V_QEMU   the emulator, if it is not qemu-system-{arch} in the search path
#   V2V_ACCEL  accelerators, best first, if not {accel}
# The serial console is this terminal: Ctrl-A X ends the guest, Ctrl-A C is QEMU's monitor.
# The network is QEMU's user-mode network: the guest reaches out, nothing reaches in.
set -eu
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
here=$(printf %s "$here" | sed 's/,/,,/g')
qemu=${{V2V_QEMU:-qemu-system-{arch}}}
accel=${{V2V_ACCEL:-{accel}}}
if ! command -v "$qemu" >/dev/null; then
  echo "$0: $qemu is not installed: install the package {package} (Debian) or qemu-kvm (Fedora)" >&2
  exit 1
fi
# Without a desktop the guest has its serial console only, on this terminal.
display=
if [ -z "${{DISPLAY:-}}${{WAYLAND_DISPLAY:-}}" ]; then
  display='-display none'
fi

"#,
        name = spec.name,
        arch = platform.arch,
        package = if platform.arch == "aarch64" {
            "qemu-system-arm"
        } else {
            "qemu-system-x86"
        },
    )
}

fn machine(spec: &DomainSpec<'_>, platform: Platform, args: &mut Args) {
    args.plain("-nodefaults", "");
    args.plain("-name", &format!("guest={}", commas(spec.name)));
    let chipset = match platform.machine {
        MachineType::I440fx => "pc",
        MachineType::Q35 => "q35",
        MachineType::Virt => "virt",
    };
    let smm = if platform.secure_boot { ",smm=on" } else { "" };
    args.word("-machine", format!("\"{chipset}{smm},accel=$accel\""));
    // `max` is the host's processor under KVM and everything that TCG can do without it.
    let cpu = if spec.domain_type == DomainType::Qemu && platform.arch == "x86_64" {
        "max,la57=off"
    } else {
        "max"
    };
    args.plain("-cpu", cpu);
    args.plain(
        "-m",
        &format!("size={}k", spec.machine.memory_bytes.div_ceil(1024)),
    );
    let smp = topology(spec.machine, platform)
        .map(|[s, c, t]| format!(",sockets={s},cores={c},threads={t}"))
        .unwrap_or_default();
    args.plain("-smp", &format!("cpus={}{smp}", spec.machine.vcpus.max(1)));
    args.plain("-rtc", &format!("base={}", clock_basis(spec).0));
    if let Some(uuid) = uuid(spec) {
        args.plain("-uuid", uuid);
    }
    for value in smbios::qemu_values(&smbios::strings(spec, platform), uuid(spec)) {
        args.plain("-smbios", &value);
    }
    if platform.firmware == Firmware::Uefi {
        if platform.secure_boot {
            // OVMF keeps its variables from the guest only if flash can be written from SMM alone, and its S3
            // boot script would undermine that: OvmfPkg/README, section "SMM support".
            args.plain("-global", "driver=cfi.pflash01,property=secure,value=on");
            args.plain("-global", "ICH9-LPC.disable_s3=1");
        }
        args.word(
            "-drive",
            "\"if=pflash,unit=0,format=raw,readonly=on,file=$code\"".to_owned(),
        );
        args.word(
            "-drive",
            "\"if=pflash,unit=1,format=raw,file=$nvram\"".to_owned(),
        );
    }
}

fn disks(
    spec: &DomainSpec<'_>,
    platform: Platform,
    drives: &Drives,
    files: &[String],
    args: &mut Args,
    notes: &mut Vec<String>,
) {
    let all = || drives.disks.iter().chain(&drives.cdroms);
    if all().any(|slot| slot.bus == BlockBus::VirtioScsi) {
        args.plain("-device", "virtio-scsi-pci,id=scsi0");
    }
    // q35 has one AHCI controller on board, whose ports are the buses ide.0 to ide.5.
    let on_board = u32::from(platform.machine == MachineType::Q35);
    let sata = all()
        .filter(|slot| slot.bus == BlockBus::Sata)
        .map(|slot| slot.unit / SATA_PORTS + 1)
        .max();
    for controller in on_board..sata.unwrap_or(0) {
        args.plain("-device", &format!("ich9-ahci,id=ahci{controller}"));
    }
    let discard = match spec.preallocation {
        Preallocation::Sparse => ",discard=unmap",
        Preallocation::Falloc => "",
    };
    for (index, (slot, file)) in drives.disks.iter().zip(files).enumerate() {
        let format = spec.format.name();
        let file = quote(&commas(file));
        args.word(
            "-drive",
            format!("\"if=none,id=disk{index},format={format}{discard},file=$here\"/{file}"),
        );
        let serial = spec
            .machine
            .disks
            .get(index)
            .and_then(|disk| disk.serial.as_deref());
        let serial = serial
            .filter(|s| plain_serial(s))
            .map(|s| format!(",serial={s}"))
            .unwrap_or_default();
        let order = slot
            .boot_order
            .map(|order| format!(",bootindex={order}"))
            .unwrap_or_default();
        let sectors = sector_sizes(spec.machine, index, slot, notes)
            .map(|sizes| {
                let (logical, physical) = (sizes.logical, sizes.physical);
                format!(",logical_block_size={logical},physical_block_size={physical}")
            })
            .unwrap_or_default();
        args.plain(
            "-device",
            &format!(
                "{},drive=disk{index}{serial}{sectors}{order}",
                drive(slot, platform, "hd")
            ),
        );
    }
    for slot in &drives.cdroms {
        args.plain("-device", &drive(slot, platform, "cd"));
    }
    if drives.floppies > 0 {
        args.plain("-device", "floppy,drive-type=144");
    }
}

/// The device of a drive with its place; `kind` is `hd` or `cd`.
fn drive(slot: &Slot, platform: Platform, kind: &str) -> String {
    match slot.bus {
        BlockBus::VirtioBlk => "virtio-blk-pci".to_owned(),
        BlockBus::VirtioScsi => format!("scsi-{kind},bus=scsi0.0,scsi-id={}", slot.unit),
        BlockBus::Ide => format!(
            "ide-{kind},bus=ide.{},unit={}",
            slot.unit / 2,
            slot.unit % 2
        ),
        BlockBus::Sata => {
            let (controller, port) = (slot.unit / SATA_PORTS, slot.unit % SATA_PORTS);
            if controller == 0 && platform.machine == MachineType::Q35 {
                format!("ide-{kind},bus=ide.{port}")
            } else {
                format!("ide-{kind},bus=ahci{controller}.{port}")
            }
        }
    }
}

fn others(spec: &DomainSpec<'_>, platform: Platform, args: &mut Args) {
    let model = match spec.caps.net_bus {
        NetBus::Virtio => "virtio-net-pci",
        NetBus::E1000e => "e1000e",
        NetBus::E1000 => "e1000",
        NetBus::Rtl8139 => "rtl8139",
    };
    for (index, nic) in spec.machine.nics.iter().enumerate() {
        args.plain("-netdev", &format!("user,id=net{index}"));
        let mac = nic.mac.map(|mac| format!(",mac={mac}")).unwrap_or_default();
        args.plain("-device", &format!("{model},netdev=net{index}{mac}"));
    }
    if platform.machine == MachineType::Virt {
        args.plain("-device", "virtio-gpu-pci");
        args.plain("-device", "qemu-xhci");
        args.plain("-device", "usb-kbd");
    } else {
        args.plain("-device", "VGA");
        args.plain("-usb", "");
    }
    args.plain("-device", "usb-tablet");
    if spec.caps.virtio_rng {
        args.plain("-object", "rng-random,id=rng0,filename=/dev/urandom");
        args.plain("-device", "virtio-rng-pci,rng=rng0");
    }
    if spec.caps.virtio_balloon {
        args.plain("-device", "virtio-balloon-pci");
    }
    if spec.caps.pvpanic && platform.arch == "x86_64" {
        args.plain("-device", "pvpanic");
    }
    args.plain("-serial", "mon:stdio");
}

#[cfg(test)]
mod tests;
