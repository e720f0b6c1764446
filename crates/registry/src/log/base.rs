//! The base block: of a primary file, and its first sector at the head of a log (regf specification, "Base block").

use std::ops::Range;

/// Length of a base block; the hive bins follow it.
pub(crate) const BASE: usize = 4096;
/// The part of it that a log repeats, at least.
pub(crate) const SECTOR: usize = 512;
/// Of a hive bin and of the hive bins' size.
pub(crate) const PAGE: u32 = 4096;

const SEQUENCE_1: usize = 4;
const SEQUENCE_2: usize = 8;
const WRITTEN: usize = 12;
#[cfg(any(test, feature = "testing"))]
const MINOR: usize = 24;
const FILE_TYPE: usize = 28;
const BINS_SIZE: usize = 40;
const CLUSTERING: usize = 44;
/// Windows 10 on; zero before, in the log entries too.
const FLAGS: usize = 144;
const CHECKSUM: usize = 508;
/// In the first hive bin: a copy of the base block's time of writing.
const BIN_WRITTEN: usize = BASE + 20;

/// File types of a log. Windows 2000 and before: 2 (1 was `SYSTEM.ALT`).
pub(crate) const TYPE_LOG: u32 = 1;
pub(crate) const TYPE_LOG_2000: u32 = 2;
pub(crate) const TYPE_LOG_NEW: u32 = 6;

/// What the log replay needs of a base block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// Counted up at the start of a write.
    pub(crate) sequence_1: u32,
    /// Counted up at its end.
    pub(crate) sequence_2: u32,
    /// FILETIME.
    pub(crate) written: u64,
    /// 0 for a primary file.
    pub(crate) file_type: u32,
    /// Bytes of all hive bins.
    pub(crate) bins_size: u32,
    /// Bytes of a sector of the disk.
    pub(crate) sector: usize,
}

impl Base {
    /// `None` without the signature or with a wrong checksum.
    pub(crate) fn read(file: &[u8]) -> Option<Self> {
        let sector = file.first_chunk::<SECTOR>()?;
        // No mutation finds a checksum; `cargo xtask fuzz` takes them all.
        let is_right = cfg!(fuzzing) || u32_at(sector, CHECKSUM)? == checksum(sector);
        if !sector.starts_with(b"regf") || !is_right {
            return None;
        }
        let clustering = usize::try_from(u32_at(sector, CLUSTERING)?).ok()?;
        Some(Self {
            sequence_1: u32_at(sector, SEQUENCE_1)?,
            sequence_2: u32_at(sector, SEQUENCE_2)?,
            written: u64_at(sector, WRITTEN)?,
            file_type: u32_at(sector, FILE_TYPE)?,
            bins_size: u32_at(sector, BINS_SIZE)?,
            sector: SECTOR * clustering.clamp(1, BASE / SECTOR),
        })
    }

    /// True after a write that was finished.
    pub(crate) fn is_settled(&self) -> bool {
        self.sequence_1 == self.sequence_2
    }
}

/// XOR of the 127 words before it; never 0 or all ones.
fn checksum(sector: &[u8; SECTOR]) -> u32 {
    let (words, _) = sector.as_chunks::<4>();
    let sum = words
        .iter()
        .take(CHECKSUM / 4)
        .fold(0, |sum, word| sum ^ u32::from_le_bytes(*word));
    match sum {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        sum => sum,
    }
}

/// Changes fields of the base block in front of `file` and makes the checksum right; nothing where `file` is too short.
pub(crate) struct Edit<'f>(pub(crate) &'f mut [u8]);

impl Edit<'_> {
    pub(crate) fn sequence(self, first: u32, second: u32) -> Self {
        self.put(SEQUENCE_1, &first.to_le_bytes())
            .put(SEQUENCE_2, &second.to_le_bytes())
    }

    pub(crate) fn file_type(self, kind: u32) -> Self {
        self.put(FILE_TYPE, &kind.to_le_bytes())
    }

    pub(crate) fn bins_size(self, size: u32) -> Self {
        self.put(BINS_SIZE, &size.to_le_bytes())
    }

    pub(crate) fn flags(self, flags: u32) -> Self {
        self.put(FLAGS, &flags.to_le_bytes())
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn written(self, time: u64) -> Self {
        self.put(WRITTEN, &time.to_le_bytes())
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn minor(self, minor: u32) -> Self {
        self.put(MINOR, &minor.to_le_bytes())
    }

    fn put(self, at: usize, field: &[u8]) -> Self {
        if let Some(place) = self.0.get_mut(at..at + field.len()) {
            place.copy_from_slice(field);
        }
        if let Some(sector) = self.0.first_chunk_mut::<SECTOR>() {
            let sum = checksum(sector).to_le_bytes();
            if let Some(place) = sector.get_mut(CHECKSUM..) {
                place.copy_from_slice(&sum);
            }
        }
        self
    }
}

/// The time of writing that the first hive bin repeats; `None` without a hive bin.
pub(crate) fn bin_written(primary: &[u8]) -> Option<u64> {
    primary.get(BASE..)?.starts_with(b"hbin").then_some(())?;
    u64_at(primary, BIN_WRITTEN)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*field))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*field))
}

/// A range within the file of `len` bytes from `at` on, both 32-bit offsets from the hive bins' start.
pub(crate) fn in_bins(at: u32, len: u32) -> Option<Range<usize>> {
    let start = usize::try_from(at).ok()?.checked_add(BASE)?;
    Some(start..start.checked_add(usize::try_from(len).ok()?)?)
}
