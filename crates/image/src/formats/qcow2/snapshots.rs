//! The table of internal snapshots: qcow2 "Snapshots". Each entry is a struct, extra data, identifier and name, padded
//! to 8 bytes; there is no index, so the table is walked.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Error, ErrorKind, FileRange, Result, Snapshot};

use super::header::Header;

/// Most snapshots that QEMU opens.
const MAX_SNAPSHOTS: u64 = 65536;
/// Longest table that QEMU opens: 1024 bytes for each.
const MAX_TABLE_BYTES: u64 = 1024 * MAX_SNAPSHOTS;
/// Most extra data that QEMU opens; 24 bytes are defined.
const MAX_EXTRA: u64 = 1024;
/// Bytes of extra data that are understood: large state size and disk size.
const KNOWN_EXTRA: usize = 16;

/// An entry in the file, big-endian: qcow2 "Snapshots".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// Byte 0: offset of the L1 table, a multiple of the cluster size.
    l1_table_offset: U64,
    /// Byte 8: its entries.
    l1_size: U32,
    /// Byte 12: length of the identifier.
    id_len: U16,
    /// Byte 14: length of the name.
    name_len: U16,
    /// Byte 16: when it was made, seconds since 1970.
    date_sec: U32,
    /// Byte 20: and nanoseconds.
    date_nsec: U32,
    /// Byte 24: how long the guest had run, in nanoseconds.
    vm_clock_nsec: U64,
    /// Byte 32: bytes of machine state, unless the extra data give them.
    vm_state_size: U32,
    /// Byte 36: length of the extra data that follow.
    extra_len: U32,
}

const _: () = assert!(size_of::<RawEntry>() == 40);

/// A snapshot and where its disk is.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) said: Snapshot,
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    /// Size of the disk when it was made; `None` where the image is too old to say.
    pub(super) virtual_size: Option<u64>,
}

/// All snapshots, and the length of the table in bytes.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) offset: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) len: u64,
}

/// Reads the table.
pub(super) fn read(range: &FileRange, header: &Header) -> Result<Table> {
    let mut table = Table {
        offset: header.snapshots_offset,
        ..Table::default()
    };
    if header.snapshots == 0 {
        return Ok(table);
    }
    let start = header.snapshots_offset;
    let cluster_size = header.geometry.cluster_size();
    if header.snapshots > MAX_SNAPSHOTS {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "expected at most {MAX_SNAPSHOTS} snapshots, found {}",
                header.snapshots
            ),
        )
        .at(60));
    }
    if start < cluster_size || !start.is_multiple_of(cluster_size) {
        return Err(Error::corrupt(format!(
            "expected the snapshot table after the header at a multiple of {cluster_size:#x}, found {start:#x}"
        ))
        .at(64));
    }
    for _ in 0..header.snapshots {
        let at = start
            .checked_add(table.len)
            .filter(|_| table.len <= MAX_TABLE_BYTES)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Limit,
                    format!("expected a snapshot table of at most {MAX_TABLE_BYTES} bytes"),
                )
                .at(start)
            })?;
        let (entry, len) = read_entry(range, at)?;
        table.entries.push(entry);
        table.len += len;
    }
    Ok(table)
}

fn read_entry(range: &FileRange, at: u64) -> Result<(Entry, u64)> {
    let mut raw = RawEntry::read_from_bytes(&[0; 40]).map_err(|_| Error::corrupt("no entry"))?;
    range.read_exact_at(raw.as_mut_bytes(), at)?;
    let extra_len = u64::from(raw.extra_len.get());
    if extra_len > MAX_EXTRA {
        return Err(Error::corrupt(format!(
            "expected at most {MAX_EXTRA} bytes of extra snapshot data, found {extra_len}"
        ))
        .at(at));
    }
    let (id_len, name_len) = (
        usize::from(raw.id_len.get()),
        usize::from(raw.name_len.get()),
    );
    let extra_len = super::to_usize(extra_len);
    let rest = range.read_vec(at + 40, extra_len + id_len + name_len)?;
    let (extra, strings) = rest.split_at(extra_len);
    let (id, name) = strings.split_at(id_len);
    let u64_at = |at: usize| {
        extra
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .map(|bytes| u64::from_be_bytes(*bytes))
    };
    let entry = Entry {
        said: Snapshot {
            id: String::from_utf8_lossy(id).into_owned(),
            name: String::from_utf8_lossy(name).into_owned(),
            vm_state_size: u64_at(0).unwrap_or(raw.vm_state_size.get().into()),
            date_sec: raw.date_sec.get().into(),
            date_nsec: raw.date_nsec.get(),
            vm_clock_nsec: raw.vm_clock_nsec.get(),
        },
        l1_offset: raw.l1_table_offset.get(),
        l1_entries: raw.l1_size.get().into(),
        virtual_size: if extra.len() >= KNOWN_EXTRA {
            u64_at(8)
        } else {
            None
        },
    };
    let len = (40 + rest.len() as u64).next_multiple_of(8);
    Ok((entry, len))
}

impl Table {
    /// The snapshot that a user means: by identifier, else by name.
    pub(super) fn find(&self, wanted: &str) -> Result<&Entry> {
        let by = |what: fn(&Snapshot) -> &str| {
            self.entries
                .iter()
                .find(move |entry| what(&entry.said) == wanted)
        };
        by(|said| &said.id)
            .or_else(|| by(|said| &said.name))
            .ok_or_else(|| {
                let all: Vec<_> = self
                    .entries
                    .iter()
                    .take(20)
                    .map(|entry| format!("{} ({})", entry.said.id, entry.said.name))
                    .collect();
                let found = if all.is_empty() {
                    "none".to_owned()
                } else {
                    all.join(", ")
                };
                Error::new(
                    ErrorKind::Usage,
                    format!(
                        "expected a snapshot with the identifier or name {wanted:?}, found {found}"
                    ),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_at_the_bytes_of_the_specification() {
        let bytes: Vec<u8> = (0..40).collect();
        let raw = RawEntry::read_from_bytes(&bytes).unwrap();
        let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(raw.l1_table_offset.get(), u64_at(0));
        assert_eq!(raw.l1_size.get(), u32_at(8));
        assert_eq!(raw.id_len.get(), 0x0c0d);
        assert_eq!(raw.name_len.get(), 0x0e0f);
        assert_eq!(raw.date_sec.get(), u32_at(16));
        assert_eq!(raw.date_nsec.get(), u32_at(20));
        assert_eq!(raw.vm_clock_nsec.get(), u64_at(24));
        assert_eq!(raw.vm_state_size.get(), u32_at(32));
        assert_eq!(raw.extra_len.get(), u32_at(36));
    }
}
