//! Where everything lies on a matrix guest's disk.
//!
//! ```text
//! 1 MiB [ESP] [/boot] root's container to the end        GPT with UEFI, else MBR
//! ```

use super::{Loader, MATRIX, MatrixGuest, Stack};
use crate::guest::layout::{LvmSpan, SECTOR, Span};
use crate::guest::lvm::{EXTENT_SECTORS, PE_START_SECTORS};
use crate::guest::md;

const MIB_SECTORS: u64 = 2048;
/// A Debian with all of its kernel's modules takes about a third.
const DISK_MIB: u64 = 3072;
/// Ciphertext has no holes: such a disk takes all of its room on the host, and again when it is converted.
const ENCRYPTED_DISK_MIB: u64 = 1792;
/// Room for two kernels and their initramfs archives.
const BOOT_MIB: u64 = 384;
/// More than LUKS 1 (2 MiB) and exactly what LUKS 2 takes (cryptsetup's default data offset).
pub(super) const LUKS_SECTORS: u64 = 16 * MIB_SECTORS;
const SWAP_EXTENTS: u64 = 16;

/// A partition: its number and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) span: Span,
}

/// The partitions of a guest, and how large the root's file system is.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Of every disk.
    pub(super) disk_sectors: u64,
    pub(super) esp: Option<Part>,
    pub(super) boot: Option<Part>,
    /// Holds the root, or what the root lies on.
    pub(super) root: Part,
    /// Volumes inside the container; `pv` starts at the container's own payload.
    pub(super) lvm: Option<LvmSpan>,
    /// Bytes of the root's file system.
    pub(super) root_size: u64,
    /// Which guest of the matrix, from 1: makes ids unique.
    id: u32,
    root_type: &'static str,
}

/// Where GRUB 2 can read the root, it has `/boot` in it, as most installers leave it.
fn wants_boot(guest: &MatrixGuest) -> bool {
    match guest.loader {
        Loader::SystemdBoot => false,
        Loader::Bls | Loader::Extlinux | Loader::GrubLegacy => true,
        Loader::GrubCfg => guest.stack.is_encrypted() || guest.stack.has_lvm(),
    }
}

impl Plan {
    pub(super) fn of(guest: &MatrixGuest) -> Self {
        let mut next = (1, 1);
        let mut part = |mib: u64| {
            let (number, start) = next;
            next = (number + 1, start + mib);
            Part {
                number,
                span: Span {
                    start_sector: start * MIB_SECTORS,
                    sectors: mib * MIB_SECTORS,
                },
            }
        };
        let esp = guest.uefi.then(|| {
            // systemd-boot finds kernels on the ESP only.
            part(if guest.loader == Loader::SystemdBoot {
                BOOT_MIB
            } else {
                64
            })
        });
        let boot = wants_boot(guest).then(|| part(BOOT_MIB));
        let used =
            esp.map_or(0, |part| part.span.sectors) + boot.map_or(0, |part| part.span.sectors);
        let disk_mib = match guest.stack.is_encrypted() {
            true => ENCRYPTED_DISK_MIB,
            false => DISK_MIB,
        };
        // One MiB before, one after, for GPT's second copy.
        let root = part(disk_mib - 2 - used / MIB_SECTORS);
        let mut payload = root.span.sectors;
        payload -= match guest.stack {
            Stack::Luks | Stack::LvmOnLuks => LUKS_SECTORS,
            Stack::Md => md::DATA_SECTORS,
            Stack::Plain | Stack::Lvm => 0,
        };
        let lvm = guest.stack.has_lvm().then(|| volumes(payload));
        let root_sectors = lvm.map_or(payload, |lvm| lvm.root_extents * EXTENT_SECTORS);
        let id = MATRIX.iter().position(|other| other.name == guest.name);
        Self {
            disk_sectors: disk_mib * MIB_SECTORS,
            esp,
            boot,
            root,
            lvm,
            root_size: root_sectors * SECTOR,
            id: u32::try_from(id.unwrap_or(0)).unwrap_or(0) + 1,
            root_type: root_type(guest),
        }
    }

    /// A UUID of this guest: `which` says of what.
    pub(super) fn uuid(&self, which: Id) -> String {
        format!(
            "5a3d{:04x}-{:04x}-4000-8000-00000000000a",
            self.id, which as u32
        )
    }

    /// FAT's volume id, eight hexadecimal digits.
    pub(super) fn esp_id(&self) -> String {
        format!("5A3D{:04X}", self.id)
    }

    /// Input of sfdisk(8).
    pub(super) fn sfdisk_script(&self) -> String {
        self.script(0, [self.esp, self.boot, Some(self.root)])
    }

    /// The same for the other half of a mirror, which has the root's partition only.
    pub(super) fn mirror_script(&self) -> String {
        self.script(1, [None, None, Some(self.root)])
    }

    fn script(&self, disk: u32, parts: [Option<Part>; 3]) -> String {
        let gpt = self.esp.is_some();
        let mut text = if gpt {
            format!(
                "label: gpt\nlabel-id: 5A3D{:04X}-00{disk:02X}-4000-8000-000000000000\n",
                self.id
            )
        } else {
            format!("label: dos\nlabel-id: 0x5a{disk:02x}{:04x}\n", self.id)
        };
        text += "unit: sectors\n\n";
        let first = parts.iter().flatten().map(|part| part.number).min();
        for (part, kind) in
            parts
                .into_iter()
                .zip([("U", "ef"), ("L", "83"), (self.root_type, self.root_type)])
        {
            let Some(Part { number, span }) = part else {
                continue;
            };
            let kind = match gpt {
                true => format!(
                    "type={}, uuid=5A3D{:04X}-00{disk:02X}-4000-8000-{number:012}",
                    if kind.0 == "U" {
                        "U"
                    } else {
                        gpt_type(self.root_type, kind.0)
                    },
                    self.id
                ),
                false => format!(
                    "type={}{}",
                    kind.1,
                    if first == Some(number) {
                        ", bootable"
                    } else {
                        ""
                    }
                ),
            };
            text += &format!(
                "disk{number} : start={}, size={}, {kind}\n",
                span.start_sector, span.sectors
            );
        }
        text
    }
}

/// What an id is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Id {
    Root = 1,
    Boot,
    Luks,
    Machine,
}

fn volumes(payload: u64) -> LvmSpan {
    let extents = (payload - PE_START_SECTORS) / EXTENT_SECTORS;
    LvmSpan {
        pv: Span {
            start_sector: 0,
            sectors: payload,
        },
        root_extents: extents - SWAP_EXTENTS,
        swap_extents: SWAP_EXTENTS,
    }
}

/// MBR types: Linux, LVM, RAID.
fn root_type(guest: &MatrixGuest) -> &'static str {
    match guest.stack {
        Stack::Plain | Stack::Luks | Stack::LvmOnLuks => "83",
        Stack::Lvm => "8e",
        Stack::Md => "fd",
    }
}

/// The GPT type that goes with an MBR type; `kind` is "L" for `/boot`.
fn gpt_type(root_type: &str, kind: &str) -> &'static str {
    match (kind, root_type) {
        ("L", _) | (_, "83") => "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
        (_, "8e") => "E6D6D379-F507-44C2-A23C-238F2A3DF928",
        _ => "A19D880F-05FC-4D3B-A006-743F0F84911E",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_everything_fits() {
        for guest in &MATRIX {
            let plan = Plan::of(guest);
            let parts: Vec<Part> = [plan.esp, plan.boot, Some(plan.root)]
                .into_iter()
                .flatten()
                .collect();
            assert!(parts[0].span.start_sector >= MIB_SECTORS);
            for (number, part) in parts.iter().enumerate() {
                assert_eq!(part.number as usize, number + 1);
                let end = parts
                    .get(number + 1)
                    .map_or(plan.disk_sectors - 33, |next| next.span.start_sector);
                assert!(
                    part.span.start_sector + part.span.sectors <= end,
                    "{}",
                    guest.name
                );
            }
            assert!(plan.root_size > 1 << 30 && plan.root_size <= plan.root.span.len());
            assert_eq!(plan.sfdisk_script().contains("label: gpt"), guest.uefi);
        }
    }
}
