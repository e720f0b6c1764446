//! What the virtual machine is built on: chipset, firmware, and which disk hangs on which bus. Shared by the
//! domain XML and the QEMU script, so that both describe the same machine.

use types::{
    Arch, BlockBus, Firmware, GuestCaps, Machine, MachineType, OsType, Removable, RemovableKind,
    disk_letters,
};

use crate::domain::DomainSpec;
use crate::{Error, ErrorKind, Result};

/// Disks and CD-ROM drives that IDE has room for.
const IDE_SLOTS: u32 = 4;
/// Ports of one AHCI controller, QEMU's ich9-ahci.
pub(crate) const SATA_PORTS: u32 = 6;

/// Chipset, firmware and processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) machine: MachineType,
    pub(crate) firmware: Firmware,
    pub(crate) secure_boot: bool,
    /// libvirt's and QEMU's name.
    pub(crate) arch: &'static str,
    pub(crate) windows: bool,
}

impl Platform {
    /// Decides from what the source said and what the guest turned out to be; the guest wins.
    pub(crate) fn of(spec: &DomainSpec<'_>, notes: &mut Vec<String>) -> Result<Self> {
        let DomainSpec { machine, caps, .. } = *spec;
        let arch = arch_name(caps.arch)?;
        let mut chipset = if arch == "aarch64" {
            MachineType::Virt
        } else {
            caps.machine
        };
        if arch == "x86_64" && chipset == MachineType::Virt {
            chipset = MachineType::Q35;
        }
        let firmware = match chipset {
            MachineType::Virt => Firmware::Uefi,
            _ => caps.firmware.or(machine.firmware).unwrap_or(Firmware::Bios),
        };
        if firmware == Firmware::Uefi && machine.firmware == Some(Firmware::Bios) {
            notes.push(
                "the source says BIOS, but the guest boots by UEFI: the domain has UEFI".to_owned(),
            );
        }
        let secure_boot = machine.secure_boot && firmware == Firmware::Uefi && arch == "x86_64";
        if secure_boot && chipset == MachineType::I440fx {
            // OVMF with Secure Boot needs SMM, which only q35 has.
            notes.push("Secure Boot needs the q35 chipset: i440fx was replaced by it".to_owned());
            chipset = MachineType::Q35;
        }
        let windows = spec.guest.is_some_and(|guest| guest.os == OsType::Windows);
        Ok(Self {
            machine: chipset,
            firmware,
            secure_boot,
            arch,
            windows,
        })
    }

    /// The bus that serves for a wish on this chipset.
    fn bus(self, wish: BlockBus) -> BlockBus {
        match (self.machine, wish) {
            (MachineType::Q35, BlockBus::Ide) => BlockBus::Sata,
            (MachineType::Virt, BlockBus::Ide | BlockBus::Sata) => BlockBus::VirtioScsi,
            (_, bus) => bus,
        }
    }

    fn cdrom_bus(self) -> BlockBus {
        self.bus(BlockBus::Ide)
    }
}

/// libvirt's and QEMU's name of the processor; others than these cannot be described.
pub(crate) fn arch_name(arch: Arch) -> Result<&'static str> {
    match arch {
        // A 32-bit guest runs on a 64-bit processor, and not every host has a 32-bit emulator.
        Arch::X86_64 | Arch::I686 => Ok("x86_64"),
        Arch::Aarch64 => Ok("aarch64"),
        other => Err(Error::new(
            ErrorKind::Unsupported,
            format!("no domain can be described for the guest's architecture ({other:?})"),
        )),
    }
}

/// A drive on its bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) bus: BlockBus,
    /// Target device: `vda`, `sdb`, `hdc`; unique in the domain.
    pub(crate) dev: String,
    /// Position on its bus: target on SCSI, port on SATA, position on IDE, 0 on virtio-blk.
    pub(crate) unit: u32,
    /// Place in the boot order, from 1; `None` for CD-ROM drives.
    pub(crate) boot_order: Option<usize>,
}

/// Where all drives hang.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drives {
    pub(crate) disks: Vec<Slot>,
    pub(crate) cdroms: Vec<Slot>,
    /// Number of floppy drives: 0 or 1.
    pub(crate) floppies: u32,
}

impl Drives {
    /// Gives every disk and every removable drive of the machine its place.
    pub(crate) fn assign(
        platform: Platform,
        machine: &Machine,
        caps: &GuestCaps,
        notes: &mut Vec<String>,
    ) -> Self {
        let mut letters = Letters::default();
        let bus = platform.bus(caps.block_bus);
        let mut drives = Self::default();
        for order in boot_orders(machine.disks.len(), caps.boot_disk) {
            // More disks than IDE has room for: the first ones boot the guest, the others need AHCI.
            let slot = letters
                .take(bus, None)
                .or_else(|| letters.take(BlockBus::Sata, None));
            if let Some(slot) = slot {
                drives.disks.push(Slot {
                    boot_order: Some(order),
                    ..slot
                });
            }
        }
        if drives.disks.iter().any(|slot| slot.bus != bus) {
            notes.push(format!(
                "IDE has room for {IDE_SLOTS} disks: the others hang on SATA"
            ));
        }
        for removable in &machine.removables {
            drives.place_removable(platform, *removable, &mut letters, notes);
        }
        drives
    }

    fn place_removable(
        &mut self,
        platform: Platform,
        drive: Removable,
        letters: &mut Letters,
        notes: &mut Vec<String>,
    ) {
        match drive.kind {
            RemovableKind::Cdrom => {
                let bus = platform.cdrom_bus();
                let wish = drive.slot.filter(|_| bus == BlockBus::Ide);
                let slot = letters
                    .take(bus, wish)
                    .or_else(|| letters.take(BlockBus::Sata, None));
                self.cdroms.extend(slot);
            }
            RemovableKind::Floppy
                if platform.machine == MachineType::I440fx && self.floppies == 0 =>
            {
                self.floppies += 1;
            }
            RemovableKind::Floppy => {
                notes.push("the floppy drive was left out: only i440fx has one".to_owned())
            }
        }
    }
}

/// Which letters and positions are taken. SCSI and SATA share the letters of `sd`.
#[derive(Debug, Default)]
struct Letters {
    vd: u32,
    sd: u32,
    scsi: u32,
    sata: u32,
    ide: Vec<u32>,
}

impl Letters {
    /// The next free place on a bus, or the wished one; `None` when the bus is full.
    fn take(&mut self, bus: BlockBus, wish: Option<u32>) -> Option<Slot> {
        let (prefix, letter, unit) = match bus {
            BlockBus::VirtioBlk => ("vd", next(&mut self.vd), 0),
            BlockBus::VirtioScsi => ("sd", next(&mut self.sd), next(&mut self.scsi)),
            BlockBus::Sata => ("sd", next(&mut self.sd), next(&mut self.sata)),
            BlockBus::Ide => {
                let free = |unit: &u32| *unit < IDE_SLOTS && !self.ide.contains(unit);
                let unit = wish.filter(free).or_else(|| (0..IDE_SLOTS).find(free))?;
                self.ide.push(unit);
                ("hd", unit, unit)
            }
        };
        Some(Slot {
            bus,
            dev: format!("{prefix}{}", disk_letters(letter)),
            unit,
            boot_order: None,
        })
    }
}

fn next(counter: &mut u32) -> u32 {
    let unit = *counter;
    *counter += 1;
    unit
}

/// For each disk its place in the boot order: the boot disk first, the others as they come.
fn boot_orders(count: usize, boot_disk: Option<u32>) -> Vec<usize> {
    let boot = boot_disk
        .and_then(|disk| usize::try_from(disk).ok())
        .filter(|disk| *disk < count)
        .unwrap_or(0);
    (0..count)
        .map(|disk| match disk {
            disk if disk == boot => 1,
            disk if disk < boot => disk + 2,
            disk => disk + 1,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::samples;
    use types::DiskBus;

    fn assign(sample: &samples::Sample) -> (Drives, Vec<String>) {
        let mut notes = Vec::new();
        let platform = Platform::of(&sample.spec(), &mut notes).unwrap();
        (
            Drives::assign(platform, &sample.machine, &sample.caps, &mut notes),
            notes,
        )
    }

    fn devs(slots: &[Slot]) -> Vec<&str> {
        slots.iter().map(|slot| slot.dev.as_str()).collect()
    }

    #[test]
    fn the_boot_disk_comes_first_and_every_order_once() {
        assert_eq!(boot_orders(4, Some(2)), [2, 3, 1, 4]);
        assert_eq!(boot_orders(3, None), [1, 2, 3]);
        assert_eq!(boot_orders(2, Some(7)), [1, 2]);
        assert!(boot_orders(0, Some(0)).is_empty());
    }

    #[test]
    fn the_fifth_ide_disk_hangs_on_sata_and_so_does_the_cdrom() {
        let mut sample = samples::old();
        sample.machine.disks = vec![sample.machine.disks[0].clone(); 5];
        let (drives, notes) = assign(&sample);
        assert_eq!(devs(&drives.disks), ["hda", "hdb", "hdc", "hdd", "sda"]);
        assert_eq!(drives.disks[4].bus, BlockBus::Sata);
        assert_eq!(devs(&drives.cdroms), ["sdb"]);
        assert!(notes.iter().any(|note| note.contains("SATA")), "{notes:?}");
    }

    #[test]
    fn a_cdrom_keeps_its_ide_place_when_it_is_free() {
        let mut sample = samples::old();
        let cdrom = |slot| Removable {
            kind: RemovableKind::Cdrom,
            bus: DiskBus::Ide,
            slot,
        };
        sample.machine.removables = vec![cdrom(Some(2)), cdrom(Some(0)), cdrom(Some(9))];
        let (drives, _) = assign(&sample);
        assert_eq!(
            devs(&drives.cdroms),
            ["hdc", "hdb", "hdd"],
            "hda is the disk"
        );
    }

    #[test]
    fn q35_has_neither_ide_nor_floppy() {
        let mut sample = samples::old();
        sample.caps.machine = MachineType::Q35;
        let (drives, notes) = assign(&sample);
        assert_eq!(drives.disks[0].bus, BlockBus::Sata);
        assert_eq!((devs(&drives.cdroms), drives.floppies), (vec!["sdb"], 0));
        assert!(
            notes.iter().any(|note| note.contains("floppy")),
            "{notes:?}"
        );
    }

    #[test]
    fn scsi_disks_and_a_sata_cdrom_share_the_letters() {
        let mut sample = samples::bios();
        sample.caps.block_bus = BlockBus::VirtioScsi;
        sample.machine.disks = vec![sample.machine.disks[0].clone(); 30];
        let (drives, _) = assign(&sample);
        assert_eq!(
            (drives.disks[29].dev.as_str(), drives.cdroms[0].dev.as_str()),
            ("sdad", "sdae")
        );
        assert_eq!((drives.disks[29].unit, drives.cdroms[0].unit), (29, 0));
    }

    #[test]
    fn secure_boot_on_i440fx_moves_to_q35_with_a_note() {
        let mut sample = samples::uefi();
        sample.caps.machine = MachineType::I440fx;
        let mut notes = Vec::new();
        assert_eq!(
            Platform::of(&sample.spec(), &mut notes).unwrap().machine,
            MachineType::Q35
        );
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn an_unknown_architecture_is_refused_by_name() {
        let mut sample = samples::bios();
        sample.caps.arch = Arch::Other;
        let error = Platform::of(&sample.spec(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
