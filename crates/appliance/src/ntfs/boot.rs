//! The boot sector (`$Boot`).
//!
//! ```text
//! 03 "NTFS    "          18 sectors per track (u16)      30 cluster of the MFT (u64)
//! 0b bytes per sector    1a heads (u16)                  40 MFT record: clusters, or -log2 of bytes (i8)
//! 0d sectors per cluster 1c hidden sectors (u32)         44 index block: the same (i8)
//!                        28 sectors of the volume (u64)  1fe 55 aa
//! ```
//! A copy of it is in the sector behind the volume's last.

use super::{Error, Result, corrupt, field, u16_at, u32_at, u64_at};

/// Bytes of it.
pub(super) const LEN: usize = 512;
/// Clusters are at most 2 MiB (Windows 10 1709 on).
const CLUSTER_MAX: u64 = 2 << 20;
/// Records are 1 KiB, or 4 KiB on disks of such sectors.
const RECORDS: std::ops::RangeInclusive<u64> = 512..=64 << 10;

/// What BIOS code in the boot sector is told of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Sectors per track.
    pub sectors: u16,
    /// Heads.
    pub heads: u16,
    /// Sectors before the volume on its disk.
    pub hidden: u32,
}

/// The boot sector, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootSector {
    /// Bytes of a sector.
    pub sector_size: u64,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Sectors of the volume, without the one behind it that holds the copy.
    pub sectors: u64,
    /// Clusters of the volume.
    pub clusters: u64,
    /// First cluster of the MFT.
    pub mft: u64,
    /// Bytes of a record of the MFT.
    pub record_size: usize,
    /// Bytes of a block of an index.
    pub index_size: usize,
    /// For BIOS code.
    pub geometry: Geometry,
}

impl BootSector {
    /// Reads it; the volume has to fit in `len` bytes.
    pub fn parse(bytes: &[u8], len: u64) -> Result<Self> {
        if bytes.get(3..11) != Some(b"NTFS    ") || bytes.get(510..512) != Some(&[0x55, 0xaa]) {
            return Err(corrupt("no boot sector"));
        }
        let sector_size = u64::from(u16_at(bytes, 0x0b)?);
        if !sector_size.is_power_of_two() || !(512..=4096).contains(&sector_size) {
            return Err(corrupt(format!("sectors of {sector_size} bytes")));
        }
        let [exponent] = field::<1>(bytes, 0x0d)?;
        // From 0xf4 on it is a negative power of two.
        let per_cluster = match exponent {
            1..=128 => u64::from(exponent),
            0xf4.. => 1u64 << (256 - u32::from(exponent)),
            _ => 0,
        };
        let cluster_size = sector_size * per_cluster;
        if !cluster_size.is_power_of_two() || cluster_size > CLUSTER_MAX {
            return Err(corrupt(format!("{exponent} sectors per cluster")));
        }
        let sectors = u64_at(bytes, 0x28)?;
        let bytes_used = sectors
            .checked_mul(sector_size)
            .filter(|used| *used <= len)
            .ok_or_else(|| corrupt(format!("{sectors} sectors on a device of {len} bytes")))?;
        let clusters = bytes_used / cluster_size;
        let mft = u64_at(bytes, 0x30)?;
        if mft == 0 || mft >= clusters {
            return Err(corrupt(format!("the MFT at cluster {mft} of {clusters}")));
        }
        Ok(Self {
            sector_size,
            cluster_size,
            sectors,
            clusters,
            mft,
            record_size: record_size(field::<1>(bytes, 0x40)?, cluster_size)?,
            index_size: record_size(field::<1>(bytes, 0x44)?, cluster_size)?,
            geometry: Geometry {
                sectors: u16_at(bytes, 0x18)?,
                heads: u16_at(bytes, 0x1a)?,
                hidden: u32_at(bytes, 0x1c)?,
            },
        })
    }

    /// The same sector with another geometry.
    pub fn with_geometry(bytes: &[u8], geometry: Geometry) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        let fields = [
            (0x18, geometry.sectors.to_le_bytes().to_vec()),
            (0x1a, geometry.heads.to_le_bytes().to_vec()),
            (0x1c, geometry.hidden.to_le_bytes().to_vec()),
        ];
        for (at, field) in fields {
            if let Some(place) = changed.get_mut(at..at + field.len()) {
                place.copy_from_slice(&field);
            }
        }
        changed
    }
}

fn record_size([code]: [u8; 1], cluster_size: u64) -> Result<usize> {
    let size = match code {
        1..=127 => u64::from(code).checked_mul(cluster_size),
        0x80.. => 1u64.checked_shl(256 - u32::from(code)),
        0 => None,
    };
    let size = size.filter(|size| size.is_power_of_two() && RECORDS.contains(size));
    let size = size.ok_or_else(|| corrupt(format!("records of code {code:#x}")))?;
    usize::try_from(size).map_err(|_| Error::Unsupported("records that large"))
}
