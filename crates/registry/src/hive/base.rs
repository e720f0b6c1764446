//! The base block: the first 4096 bytes of a hive (Suhanov, "Windows registry file format specification", Base block).
//!
//! Accepted are primary files of versions 1.3 (Windows NT 4 with late service packs, 2000, some hives of XP) to 1.6
//! (Windows 10 with layered keys). Refused by name: older versions, transaction logs, other memory layouts.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Error, ErrorKind, Result};

/// Bytes of the base block; cells are counted from its end.
pub(crate) const BASE_LEN: usize = 4096;
/// Unit of bins and of the file.
pub(crate) const PAGE: u32 = 4096;
/// Longest hive bins data: bit 31 of a cell's offset marks volatile storage, which no file has.
pub(crate) const MAX_BINS_LEN: u32 = 0x7fff_f000;
/// `regf`.
const MAGIC: [u8; 4] = *b"regf";
const MAJOR: u32 = 1;
/// Versions before it have cells with a back link and no `lf` lists.
const MIN_MINOR: u32 = 3;
const MAX_MINOR: u32 = 6;
/// File type of a primary file; 1, 2 and 6 are logs.
const PRIMARY: u32 = 0;
/// "Direct memory load", the only layout there is.
const MEMORY_LOAD: u32 = 1;
/// Bytes that the checksum covers.
const SUMMED: usize = 508;

/// The part of the base block that has a meaning on disk.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct BaseBlock {
    /// `regf`.
    pub(crate) magic: [u8; 4],
    /// Raised before a write.
    pub(crate) primary_sequence: U32,
    /// Raised after it.
    pub(crate) secondary_sequence: U32,
    /// FILETIME.
    pub(crate) written: U64,
    pub(crate) major: U32,
    pub(crate) minor: U32,
    pub(crate) file_type: U32,
    pub(crate) format: U32,
    /// Cell of the root key.
    pub(crate) root: U32,
    /// Bytes of bins after this block.
    pub(crate) bins_len: U32,
    /// Sector size in 512 bytes.
    pub(crate) clustering: U32,
    /// End of the path, UTF-16LE.
    pub(crate) file_name: [u8; 64],
    /// GUIDs of the transaction manager and what later versions added.
    pub(crate) reserved: [u8; 396],
    /// XOR of the 127 words before it.
    pub(crate) checksum: U32,
}

const _: () = assert!(size_of::<BaseBlock>() == 512);

impl BaseBlock {
    /// The block at the beginning of a hive or a log.
    pub(crate) fn of(bytes: &[u8]) -> Result<&Self> {
        let (block, _) = Self::ref_from_prefix(bytes).map_err(|_| {
            let message = format!("expected a base block, found {} bytes", bytes.len());
            Error::new(ErrorKind::Corrupt, message).at(0)
        })?;
        if block.magic != MAGIC {
            let found = block.magic.escape_ascii();
            let message = format!("expected the magic regf, found {found}");
            return Err(Error::new(ErrorKind::Corrupt, message).at(0));
        }
        Ok(block)
    }

    /// What the checksum should be. Windows never writes all zeros or all ones.
    pub(crate) fn sum(&self) -> u32 {
        let (words, _) = self.as_bytes().as_chunks::<4>();
        let words = words.iter().take(SUMMED / 4);
        match words.fold(0, |sum, word| sum ^ u32::from_le_bytes(*word)) {
            0 => 1,
            u32::MAX => u32::MAX - 1,
            sum => sum,
        }
    }

    /// Refuses what is no clean primary file of a version that is handled, `file_len` bytes long.
    pub(crate) fn check(&self, file_len: usize) -> Result<()> {
        self.check_clean()?;
        self.check_version()?;
        let len = self.bins_len.get();
        if len == 0 || !len.is_multiple_of(PAGE) || len > MAX_BINS_LEN {
            let message = format!("expected whole pages of hive bins, found {len:#x} bytes");
            return Err(Error::new(ErrorKind::Corrupt, message).at(0x28));
        }
        if BASE_LEN + len as usize > file_len {
            let message =
                format!("expected {len:#x} bytes of hive bins, the file has {file_len:#x} in all");
            return Err(Error::new(ErrorKind::Corrupt, message).at(0x28));
        }
        Ok(())
    }

    /// `Dirty` where a write was begun and not ended.
    fn check_clean(&self) -> Result<()> {
        // No mutation finds a checksum; `cargo xtask fuzz` takes them all.
        if !cfg!(fuzzing) && self.checksum.get() != self.sum() {
            let message = format!(
                "the base block is damaged: its checksum is {:#x}, expected {:#x}",
                self.checksum.get(),
                self.sum()
            );
            return Err(Error::new(ErrorKind::Dirty, message).at(0x1fc));
        }
        if self.primary_sequence != self.secondary_sequence {
            let message = format!(
                "the hive was not closed cleanly: its sequence numbers are {} and {}",
                self.primary_sequence, self.secondary_sequence
            );
            return Err(Error::new(ErrorKind::Dirty, message).at(4));
        }
        Ok(())
    }

    fn check_version(&self) -> Result<()> {
        let unsupported =
            |message: String, at| Err(Error::new(ErrorKind::Unsupported, message).at(at));
        let (major, minor) = (self.major.get(), self.minor.get());
        if major != MAJOR || !(MIN_MINOR..=MAX_MINOR).contains(&minor) {
            let whose = if major == MAJOR && minor < MIN_MINOR {
                " (Windows NT before 4.0)"
            } else {
                ""
            };
            let message =
                format!("expected a hive of version 1.3 to 1.6, found {major}.{minor}{whose}");
            return unsupported(message, 0x14);
        }
        if self.file_type.get() != PRIMARY {
            let message = format!(
                "expected a primary file, found a log (type {})",
                self.file_type
            );
            return unsupported(message, 0x1c);
        }
        if self.format.get() != MEMORY_LOAD {
            return unsupported(format!("expected format 1, found {}", self.format), 0x20);
        }
        Ok(())
    }

    /// The block of a new hive with this much of bins.
    pub(crate) fn new(root: u32, bins_len: u32) -> Self {
        let mut block = Self::new_zeroed();
        block.magic = MAGIC;
        block.primary_sequence.set(1);
        block.secondary_sequence.set(1);
        block.major.set(MAJOR);
        block.minor.set(5);
        block.format.set(MEMORY_LOAD);
        block.root.set(root);
        block.bins_len.set(bins_len);
        block.clustering.set(1);
        block.checksum.set(block.sum());
        block
    }
}
