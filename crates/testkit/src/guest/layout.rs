//! Where everything lies on each sample's disk, and the partition table that says so.

use super::Sample;
use super::lvm::{EXTENT_SECTORS, PE_START_SECTORS};
use super::md::DATA_SECTORS as MD_DATA_SECTORS;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
const MIB_SECTORS: u64 = 2048;
/// 6 GiB: what DESIGN.md's measurements used.
pub(super) const DISK_SECTORS: u64 = 6144 * MIB_SECTORS;

/// A run of sectors on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start_sector: u64,
    pub(super) sectors: u64,
}

impl Span {
    const fn mib(start_mib: u64, mib: u64) -> Self {
        Self {
            start_sector: start_mib * MIB_SECTORS,
            sectors: mib * MIB_SECTORS,
        }
    }

    pub(super) fn offset(self) -> u64 {
        self.start_sector * SECTOR
    }

    pub(super) fn len(self) -> u64 {
        self.sectors * SECTOR
    }
}

/// A physical volume with two linear volumes, `root` then `swap`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LvmSpan {
    pub(super) pv: Span,
    pub(super) root_extents: u64,
    pub(super) swap_extents: u64,
}

/// Places of the file systems; `table` describes the partitions to sfdisk.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) root: Span,
    pub(super) swap: Span,
    pub(super) esp: Option<Span>,
    pub(super) boot: Option<Span>,
    pub(super) lvm: Option<LvmSpan>,
    /// The partition that is a member of the mirror; the root lies in its data.
    pub(super) md: Option<Span>,
    table: Vec<(u32, Span, &'static str)>,
    label: &'static str,
}

impl Layout {
    pub(super) fn of(which: Sample) -> Self {
        match which {
            Sample::Bios => Self::bios(),
            Sample::Uefi => Self::uefi(),
            Sample::Lvm => Self::with_lvm(),
            Sample::Md => Self::with_md(),
        }
    }

    /// As Debian's installer does it: the swap is a logical partition.
    fn bios() -> Self {
        let root = Span::mib(1, 5630);
        let swap = Span::mib(5632, 512);
        let table = vec![
            (1, root, "type=83, bootable"),
            (2, Span::mib(5631, 513), "type=5"),
            (5, swap, "type=82"),
        ];
        Self {
            root,
            swap,
            esp: None,
            boot: None,
            lvm: None,
            md: None,
            table,
            label: "label: dos\nlabel-id: 0x5a3d1f01\n",
        }
    }

    fn uefi() -> Self {
        let (esp, root, swap) = (
            Span::mib(1, 128),
            Span::mib(129, 5502),
            Span::mib(5631, 512),
        );
        let table = vec![
            (
                1,
                esp,
                "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=5A3D1F02-0000-4000-8000-000000000001",
            ),
            (
                2,
                root,
                "type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=5A3D1F02-0000-4000-8000-000000000002",
            ),
            (
                3,
                swap,
                "type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, uuid=5A3D1F02-0000-4000-8000-000000000003",
            ),
        ];
        let label = "label: gpt\nlabel-id: 5A3D1F02-0000-4000-8000-000000000000\n";
        Self {
            root,
            swap,
            esp: Some(esp),
            boot: None,
            lvm: None,
            md: None,
            table,
            label,
        }
    }

    fn with_lvm() -> Self {
        let (boot, pv) = (Span::mib(1, 512), Span::mib(513, 5631));
        let (root_extents, swap_extents) = (1152, 128);
        let extent = |first: u64, count: u64| Span {
            start_sector: pv.start_sector + PE_START_SECTORS + first * EXTENT_SECTORS,
            sectors: count * EXTENT_SECTORS,
        };
        Self {
            root: extent(0, root_extents),
            swap: extent(root_extents, swap_extents),
            esp: None,
            boot: Some(boot),
            lvm: Some(LvmSpan {
                pv,
                root_extents,
                swap_extents,
            }),
            md: None,
            table: vec![(1, boot, "type=83, bootable"), (2, pv, "type=8e")],
            label: "label: dos\nlabel-id: 0x5a3d1f03\n",
        }
    }

    /// As the BIOS sample, but the first partition is a member of an array.
    fn with_md() -> Self {
        let bios = Self::bios();
        let member = Span::mib(1, 5630);
        Self {
            root: Span {
                start_sector: member.start_sector + MD_DATA_SECTORS,
                sectors: member.sectors - MD_DATA_SECTORS,
            },
            md: Some(member),
            table: bios
                .table
                .into_iter()
                .map(|(number, span, rest)| match number {
                    1 => (number, span, "type=fd, bootable"),
                    _ => (number, span, rest),
                })
                .collect(),
            label: "label: dos\nlabel-id: 0x5a3d1f04\n",
            ..bios
        }
    }

    /// Input of sfdisk(8) for the other half of the mirror, which has no swap.
    pub(super) fn mirror_script(&self) -> String {
        let mut other = self.clone();
        other.label = "label: dos\nlabel-id: 0x5a3d1f05\n";
        other.table.retain(|(number, ..)| *number == 1);
        other.sfdisk_script()
    }

    /// Input of sfdisk(8).
    pub(super) fn sfdisk_script(&self) -> String {
        let mut text = format!("{}unit: sectors\n\n", self.label);
        for (number, span, rest) in &self.table {
            text += &format!(
                "disk{number} : start={}, size={}, {rest}\n",
                span.start_sector, span.sectors
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_everything_fits() {
        for which in Sample::ALL {
            let layout = Layout::of(which);
            let mut spans = vec![layout.root, layout.swap];
            spans.extend(layout.esp);
            spans.extend(layout.boot);
            spans.sort_by_key(|span| span.start_sector);
            assert!(spans[0].start_sector >= MIB_SECTORS);
            for pair in spans.windows(2) {
                assert!(
                    pair[0].start_sector + pair[0].sectors <= pair[1].start_sector,
                    "{which:?}"
                );
            }
            let end = spans
                .last()
                .map(|span| span.start_sector + span.sectors)
                .unwrap();
            assert!(end <= DISK_SECTORS, "{which:?}");
        }
    }
}
