//! NTFS as far as it must be known beside its driver: read from the unmounted device, nothing is ever written.
//!
//! | file | what it tells |
//! |---|---|
//! | `boot` | the boot sector: geometry, where the MFT is |
//! | `record` | MFT records and their attributes |
//! | `runs` | run lists: which clusters a file has |
//! | `journal` | whether `$LogFile` was closed |
//! | `directory` | names in the root directory |
//! | `volume` | all of it: dirty flag, free clusters, clusters of pagefile.sys and its like |
//!
//! Layouts are those of Windows 2000 to 11 (NTFS 3.0, 3.1), as the documentation of the Linux-NTFS project and of
//! Microsoft (`MFT_SEGMENT_REFERENCE`, `ATTRIBUTE_RECORD_HEADER`, `MULTI_SECTOR_HEADER`) give them; numbers are
//! little-endian. The volume is hostile: everything is checked, and what contradicts itself is an error, for a caller that
//! then does without.

mod boot;
mod directory;
mod journal;
mod record;
mod runs;
mod volume;

#[cfg(test)]
mod tests;

pub use boot::{BootSector, Geometry};
pub use runs::Extent;
pub use volume::{Content, ContentKind, Volume};

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a volume is not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device does not read.
    #[error("reading NTFS at {offset:#x}")]
    Read {
        /// Offset on the device in bytes.
        offset: u64,
        /// The cause.
        source: std::io::Error,
    },
    /// The bytes contradict the format, or each other.
    #[error("NTFS is damaged: {0}")]
    Corrupt(String),
    /// Sound, but beyond what is read here.
    #[error("NTFS with {0} is not read here")]
    Unsupported(&'static str),
    /// Whoever is told of the free clusters failed.
    #[error("{0}")]
    Other(String),
}

/// Shorthand for [`Error::Corrupt`].
fn corrupt(what: impl Into<String>) -> Error {
    Error::Corrupt(what.into())
}

/// What a volume is read from.
pub trait ReadAt {
    /// Fills `buf` from `offset`.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|at| self.get(at..at.checked_add(buf.len())?));
        buf.copy_from_slice(found.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn read(device: &(impl ReadAt + ?Sized), offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    device
        .read_at(&mut bytes, offset)
        .map_err(|source| Error::Read { offset, source })?;
    Ok(bytes)
}

/// A little-endian number of `N` bytes at `at`.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or_else(|| corrupt(format!("a field at {at:#x} lies outside of its record")))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

/// A part of a record whose place and length the record itself tells.
fn part(bytes: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    at.checked_add(len)
        .and_then(|end| bytes.get(at..end))
        .ok_or_else(|| {
            corrupt(format!(
                "{len} bytes at {at:#x} lie outside of their record"
            ))
        })
}

/// Undoes the multi-sector protection (`MULTI_SECTOR_HEADER`): the last two bytes of each 512 are an update sequence
/// number, the same in all of a record that was written in whole; what belongs there is in the array at `usa_offset`.
fn unprotect(record: &mut [u8]) -> Result<()> {
    const STRIDE: usize = 512;
    let offset = usize::from(u16_at(record, 4)?);
    let count = usize::from(u16_at(record, 6)?);
    if count != record.len() / STRIDE + 1 || !record.len().is_multiple_of(STRIDE) {
        return Err(corrupt(format!(
            "{count} update sequence numbers in a record of {} bytes",
            record.len()
        )));
    }
    let array = part(record, offset, count * 2)?.to_vec();
    let (numbers, _) = array.as_chunks::<2>();
    let Some((number, saved)) = numbers.split_first() else {
        return Err(corrupt("no update sequence"));
    };
    for (sector, saved) in record.chunks_exact_mut(STRIDE).zip(saved) {
        let Some(end) = sector.last_chunk_mut::<2>() else {
            continue;
        };
        if end != number {
            return Err(corrupt("a record was not written in whole"));
        }
        *end = *saved;
    }
    Ok(())
}
