//! The two headers and the replay log.

use zerocopy::{FromBytes, Immutable, KnownLayout, LE, U16, U32, U64};

use super::checksum::Algorithm;
use super::{corrupt, index, raw, unsupported};
use crate::error::Result;

/// First word of a header (D).
const SIGNATURE: u32 = 0x0128_2014;
/// First word of a replay log (D).
const LOG_SIGNATURE: u32 = 0x0111_0003;
/// The only version of which files were seen (D).
const VERSION: u32 = 0x400;
/// Offsets of the two headers (D).
const OFFSETS: [usize; 2] = [0, 0x1000];
/// Size that a header states: the distance of the two (D, S).
const HEADER_SIZE: u32 = 0x1000;
/// Most that the alignment of objects may be (D).
const MAX_ALIGNMENT: u32 = 0x1_0000;

/// A header as it is stored (D: `HyperVStorageHeader`).
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct Raw {
    signature: U32<LE>,
    /// Of the 46 bytes of this structure, this field zero.
    checksum: U32<LE>,
    sequence: U16<LE>,
    version: U32<LE>,
    unknown: U64<LE>,
    alignment: U32<LE>,
    log_offset: U64<LE>,
    log_size: U64<LE>,
    header_size: U32<LE>,
}

const _: () = assert!(size_of::<Raw>() == 0x2e);
/// Offset of `checksum`.
const CHECKSUM_FIELD: usize = 4;

/// The front of a replay log (D: `HyperVStorageReplayLog`); 20 bytes that are not understood follow.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct RawLog {
    signature: U32<LE>,
    checksum: U32<LE>,
    /// Changes that are outstanding; older ones may still be in the log behind them.
    entries: U32<LE>,
}

const _: () = assert!(size_of::<RawLog>() == 12);

/// The header that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// The file's checksum algorithm, if it is one that is known.
    pub(super) algorithm: Option<Algorithm>,
    /// Offset of the first object table.
    pub(super) objects: usize,
    log_offset: usize,
}

/// True when the file begins like one.
pub(super) fn is_vmcx(bytes: &[u8]) -> bool {
    OFFSETS.iter().any(|&offset| {
        bytes
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(&SIGNATURE.to_le_bytes()))
    })
}

/// The newer of the headers that are whole.
pub(super) fn read(bytes: &[u8]) -> Result<Header> {
    let mut found: Vec<(usize, Raw, Option<Algorithm>)> = Vec::new();
    for offset in OFFSETS {
        let Ok(header) = raw::<Raw>(bytes, offset, "a header") else {
            continue;
        };
        if header.signature != SIGNATURE {
            continue;
        }
        let stored = bytes
            .get(offset..offset + size_of::<Raw>())
            .unwrap_or_default();
        let algorithm = Algorithm::of(stored, CHECKSUM_FIELD, header.checksum.get());
        found.push((offset, header, algorithm));
    }
    // One header is being written while the other counts: the one whose checksum is right is whole.
    if found.iter().any(|(_, _, algorithm)| algorithm.is_some()) {
        found.retain(|(_, _, algorithm)| algorithm.is_some());
    }
    let newer = |a: u16, b: u16| a.wrapping_sub(b) < 0x8000;
    let chosen = match found.as_slice() {
        [one] => one,
        [first, second] if newer(first.1.sequence.get(), second.1.sequence.get()) => first,
        [_, second] => second,
        _ => {
            return Err(corrupt(
                0,
                format_args!("expected the signature {SIGNATURE:#x}, found none"),
            ));
        }
    };
    check(chosen.0, &chosen.1)?;
    Ok(Header {
        algorithm: chosen.2,
        objects: 2 * index(u64::from(HEADER_SIZE)),
        log_offset: index(chosen.1.log_offset.get()),
    })
}

fn check(offset: usize, header: &Raw) -> Result<()> {
    let (version, header_size, alignment) = (
        header.version.get(),
        header.header_size.get(),
        header.alignment.get(),
    );
    if version != VERSION {
        return Err(unsupported(
            offset,
            format_args!(
                "expected version {VERSION:#x} of the configuration file, found {version:#x}"
            ),
        ));
    }
    if header_size != HEADER_SIZE {
        return Err(unsupported(
            offset,
            format_args!("expected headers of {HEADER_SIZE:#x} bytes, found {header_size:#x}"),
        ));
    }
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return Err(corrupt(
            offset,
            format_args!(
                "expected an alignment of at most {MAX_ALIGNMENT:#x}, found {alignment:#x}"
            ),
        ));
    }
    Ok(())
}

impl Header {
    /// Offset of the replay log.
    pub(super) fn log_offset(&self) -> usize {
        self.log_offset
    }
}

/// Refuses a log with changes: what is in place is not what Hyper-V would see.
pub(super) fn check_log(bytes: &[u8], offset: usize) -> Result<()> {
    let log = raw::<RawLog>(bytes, offset, "a replay log")?;
    let (signature, entries) = (log.signature.get(), log.entries.get());
    if signature != LOG_SIGNATURE {
        return Err(corrupt(
            offset,
            format_args!("expected a replay log, {LOG_SIGNATURE:#x}, found {signature:#x}"),
        ));
    }
    if entries != 0 {
        return Err(unsupported(
            offset,
            format_args!(
                "the replay log holds {entries} changes that are not in place yet, as after copying the file of a \
                 running host; replaying them is not supported"
            ),
        ));
    }
    Ok(())
}
