//! How long the disk is: cylinders, heads and sectors against the current size.
//!
//! The footer states the capacity twice: `Current Size`, bytes "from the perspective of the virtual machine", and
//! `Disk Geometry`, which rounds down to whole cylinders (VHD 1.0, Hard Disk Footer Format, and Appendix: CHS
//! Calculation). Programs differ in which of them their guests get:
//!
//! | creator application | program | guests see |
//! |---|---|---|
//! | `vpc ` | Virtual PC | the geometry of the ATA disk that it emulates |
//! | `qemu` | qemu-img | the geometry, to which it rounds the current size up |
//! | `qem2` | qemu-img -o force_size=on, and this program | the current size |
//! | `win ` | Hyper-V, Windows disk management, Azure Backup | the current size |
//! | `d2v ` | Sysinternals disk2vhd | the current size |
//! | `tap\0`, `CTXS` | XenServer, XenConvert | the current size |
//! | `wa\0\0` | Windows Azure | the current size |
//! | `vbox` | VirtualBox | the current size |
//! | `vs  ` | Virtual Server, which has SCSI disks too | the current size: where in doubt, nothing is lost |
//!
//! (QEMU's commit fb9245c, "block/vpc: give option to force the current_size field", and its iotest 146 show the
//! list for `qem2`, `win `, `d2v ` and `tap`; our tests ask qemu-img 10 for each of the table.) Every other program
//! is taken at the specification's word. A geometry at its limit, 65535/16/255, says nothing: the disk is longer.

use super::footer::Footer;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// The geometry of every disk that is too long for one: 127.5 GiB.
const MAX_GEOMETRY: Geometry = Geometry {
    cylinders: 65535,
    heads: 16,
    sectors_per_track: 255,
};
/// Longest disk: 2040 GiB (VHD 1.0, Implementing a Dynamic Disk; "maximum size of a virtual hard disk").
pub(super) const MAX_VIRTUAL_SIZE: u64 = 2040 << 30;
/// Creators whose guests see the geometry.
const BY_GEOMETRY: [&[u8; 4]; 2] = [b"vpc ", b"qemu"];

/// `Disk Geometry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    pub(super) heads: u8,
    pub(super) sectors_per_track: u8,
}

impl Geometry {
    /// Sectors of the disk.
    pub(super) fn sectors(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors_per_track)
    }

    /// The geometry of a disk of at most `sectors`, as Virtual PC finds it (VHD 1.0, Appendix: CHS Calculation).
    pub(super) fn of(sectors: u64) -> Self {
        let sectors = sectors.min(MAX_GEOMETRY.sectors());
        let (heads, per_track) = if sectors >= 65535 * 16 * 63 {
            (16, 255)
        } else {
            small_disk(sectors)
        };
        let cylinders = sectors / per_track / heads;
        Self {
            cylinders: u16::try_from(cylinders).unwrap_or(u16::MAX),
            heads: u8::try_from(heads).unwrap_or(16),
            sectors_per_track: u8::try_from(per_track).unwrap_or(u8::MAX),
        }
    }

    /// The smallest geometry that holds `sectors`, or the greatest of all.
    pub(super) fn holding(sectors: u64) -> Self {
        if sectors >= MAX_GEOMETRY.sectors() {
            return MAX_GEOMETRY;
        }
        // A cylinder has at most 4080 sectors, so this ends soon.
        (sectors..)
            .map(Self::of)
            .find(|geometry| geometry.sectors() >= sectors)
            .unwrap_or(MAX_GEOMETRY)
    }

    /// True for the geometry that stands for "too long".
    pub(super) fn is_max(self) -> bool {
        self == MAX_GEOMETRY
    }
}

/// Heads, and sectors in a track, of a disk below 31.5 GiB: 17 sectors and 4 to 16 heads for at most 1024
/// cylinders, then 31, then 63 sectors and 16 heads.
fn small_disk(sectors: u64) -> (u64, u64) {
    const MAX_CYLINDERS: u64 = 1024;
    let tracks = sectors / 17;
    let heads = tracks.div_ceil(MAX_CYLINDERS).max(4);
    if heads <= 16 && tracks < heads * MAX_CYLINDERS {
        return (heads, 17);
    }
    if sectors / 31 < 16 * MAX_CYLINDERS {
        return (16, 31);
    }
    (16, 63)
}

/// Bytes of the disk, by the rule above. The geometry only ever takes away: a current size that is less than what
/// the geometry says is the end of what the file holds.
pub(super) fn virtual_size(footer: &Footer) -> u64 {
    let by_geometry = footer.geometry.sectors() * SECTOR;
    let trusted = BY_GEOMETRY.contains(&&footer.creator_application)
        && !footer.geometry.is_max()
        && by_geometry != 0;
    if trusted {
        by_geometry.min(footer.current_size)
    } else {
        footer.current_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sectors: u64) -> (u16, u8, u8) {
        let geometry = Geometry::of(sectors);
        (
            geometry.cylinders,
            geometry.heads,
            geometry.sectors_per_track,
        )
    }

    #[test]
    fn geometries_are_those_of_real_files() {
        // Windows 10 and VirtualBox, 4 MiB; VirtualBox, 2 GiB and 5 GiB; Virtual PC, 127 GiB.
        assert_eq!(of(8192), (120, 4, 17));
        assert_eq!(of(4 << 20), (4161, 16, 63));
        assert_eq!(of(10 << 20), (10402, 16, 63));
        assert_eq!(of(127 << 21), (65278, 16, 255));
        assert_eq!(of(u64::MAX), (65535, 16, 255));
        assert_eq!(of(0), (0, 4, 17));
    }

    #[test]
    fn rounding_up_holds_the_disk() {
        for sectors in [1, 2048, 8192, 204_800, 1 << 20, 1 << 25, 100 << 21] {
            let found = Geometry::holding(sectors).sectors();
            assert!(found >= sectors && found < sectors + 4080, "{sectors}");
        }
        assert!(Geometry::holding(1 << 30).is_max());
    }
}
