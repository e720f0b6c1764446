//! Partition tables: MBR with logical partitions, and GPT (UEFI 2.10, section 5.3). Hostile data: what does not fit
//! together is left out.

use std::io;

use super::read::{ReadAt, guid, le};

/// Entries of a GPT that are read; the usual number is 128.
const MAX_GPT_ENTRIES: u32 = 1024;
/// Bytes of a GPT's entry array at most.
const MAX_GPT_BYTES: u32 = 1 << 20;
/// Logical partitions that are followed: the kernel stops at 256 minors. Ends loops of hostile chains, too.
const MAX_LOGICAL: u32 = 252;
/// Types of extended partitions in an MBR.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Type of the entry that protects a GPT.
const PROTECTIVE: u8 = 0xee;
/// Type of a Windows dynamic disk in an MBR.
const LDM: u8 = 0x42;
/// Partition types of GPT that say what nothing else does.
const KNOWN_TYPES: &[(&str, &str)] = &[
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "esp"),
    ("21686148-6449-6e6f-744e-656564454649", "bios_boot"),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "msr"),
    ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "ldm"),
    ("af9b60a0-1431-4f62-bc68-3311714a69ad", "ldm"),
    ("e75caf8f-f680-4cee-afa3-b001e56efc2d", "storage_spaces"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    Gpt,
    Dos,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) kind: TableKind,
    /// Disk GUID, or the MBR's signature as eight hexadecimal digits.
    pub(crate) id: String,
    pub(crate) parts: Vec<Part>,
}

/// One partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u32,
    /// Bytes from the start of the disk.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) len: u64,
    /// esp, bios_boot, msr, ldm, storage_spaces; empty for all others.
    pub(crate) role: &'static str,
    /// Name in the GPT.
    pub(crate) name: String,
    /// GUID in the GPT.
    pub(crate) partuuid: String,
    /// The MBR's boot flag.
    pub(crate) active: bool,
}

/// Sector 0 and what it says by itself.
pub(crate) struct Mbr(Vec<u8>);

impl Mbr {
    /// The first 512 bytes; `None` for a disk shorter than that.
    pub(crate) fn read(disk: &dyn ReadAt) -> io::Result<Option<Self>> {
        Ok(disk.get(0, 512)?.map(Self))
    }

    /// The disk's signature, as EDD shows it.
    pub(crate) fn signature(&self) -> Option<u32> {
        le::u32(&self.0, 440).filter(|&signature| signature != 0)
    }

    fn is_signed(&self) -> bool {
        le::u16(&self.0, 510) == Some(0xaa55)
    }

    /// Type, start and length in sectors, boot flag of each of the four entries.
    fn entries(&self) -> Option<Vec<(u8, u32, u32, u8)>> {
        (0..4usize)
            .map(|index| {
                let entry = le::slice(&self.0, 446 + 16 * index, 16)?;
                Some((entry[4], le::u32(entry, 8)?, le::u32(entry, 12)?, entry[0]))
            })
            .collect()
    }

    /// The boot sector of a file system looks like an MBR but for this.
    fn is_boot_sector(&self) -> bool {
        let names: [(usize, &[u8]); 6] = [
            (3, b"NTFS    "),
            (3, b"EXFAT   "),
            (3, b"-FVE-FS-"),
            (54, b"FAT"),
            (82, b"FAT32   "),
            (3, b"ReFS\0\0\0\0"),
        ];
        names
            .iter()
            .any(|(offset, magic)| le::slice(&self.0, *offset, magic.len()) == Some(*magic))
    }
}

/// The partition table of a disk with this logical sector size.
pub(crate) fn read(disk: &dyn ReadAt, sector: u32) -> io::Result<Option<Table>> {
    let sector = u64::from(
        if sector.is_power_of_two() && (512..=65536).contains(&sector) {
            sector
        } else {
            512
        },
    );
    let Some(mbr) = Mbr::read(disk)? else {
        return Ok(None);
    };
    let Some(entries) = mbr.entries().filter(|_| mbr.is_signed()) else {
        return Ok(None);
    };
    // As the kernel does: a GPT counts only under an MBR that protects it.
    if entries.iter().any(|entry| entry.0 == PROTECTIVE) {
        let last = (disk.len() / sector).saturating_sub(1);
        for lba in [1, last] {
            // A backup that cannot be read must not hide that there is none.
            if let Ok(Some(table)) = gpt(disk, sector, lba) {
                return Ok(Some(table));
            }
        }
    }
    dos(disk, sector, &mbr, &entries)
}

fn dos(
    disk: &dyn ReadAt,
    sector: u64,
    mbr: &Mbr,
    entries: &[(u8, u32, u32, u8)],
) -> io::Result<Option<Table>> {
    if mbr.is_boot_sector() || entries.iter().any(|entry| entry.3 & 0x7f != 0) {
        return Ok(None);
    }
    let mut parts = Vec::new();
    let mut extended = None;
    for (number, &(kind, start, count, boot)) in (1u32..).zip(entries) {
        let span = span(disk, sector, u64::from(start), u64::from(count));
        let Some((offset, len)) = span.filter(|_| kind != 0 && kind != PROTECTIVE) else {
            continue;
        };
        if EXTENDED.contains(&kind) {
            extended.get_or_insert(u64::from(start));
            continue;
        }
        parts.push(Part {
            number,
            offset,
            len,
            role: if kind == LDM {
                "ldm"
            } else if kind == 0xef {
                "esp"
            } else {
                ""
            },
            active: boot & 0x80 != 0,
            ..Part::default()
        });
    }
    if let Some(start) = extended {
        logical(disk, sector, start, &mut parts)?;
    }
    if parts.is_empty() && extended.is_none() {
        return Ok(None);
    }
    let id = mbr.signature().unwrap_or_default();
    Ok(Some(Table {
        kind: TableKind::Dos,
        id: format!("{id:08x}"),
        parts,
    }))
}

/// The chain of extended boot records: each holds one partition, counted from itself, and a link to the next, counted
/// from the first.
fn logical(disk: &dyn ReadAt, sector: u64, first: u64, parts: &mut Vec<Part>) -> io::Result<()> {
    let mut here = first;
    let mut number = 5;
    for _ in 0..MAX_LOGICAL {
        let Some(record) = here
            .checked_mul(sector)
            .map(|offset| disk.get(offset, 512))
            .transpose()?
            .flatten()
            .map(Mbr)
        else {
            return Ok(());
        };
        let Some(entries) = record.entries().filter(|_| record.is_signed()) else {
            return Ok(());
        };
        let mut next = None;
        for &(kind, start, count, boot) in &entries {
            if kind == 0 || count == 0 {
                continue;
            }
            if EXTENDED.contains(&kind) {
                next = next.or_else(|| first.checked_add(u64::from(start)));
                continue;
            }
            let start = here.checked_add(u64::from(start));
            if let Some((offset, len)) =
                start.and_then(|start| span(disk, sector, start, u64::from(count)))
            {
                parts.push(Part {
                    number,
                    offset,
                    len,
                    active: boot & 0x80 != 0,
                    ..Part::default()
                });
                number += 1;
            }
        }
        match next {
            Some(next) if next > first && next != here => here = next,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Byte range of sectors; `None` where it is empty or begins behind the end. A partition that ends behind the end is
/// cut there, as the kernel does.
fn span(disk: &dyn ReadAt, sector: u64, start: u64, count: u64) -> Option<(u64, u64)> {
    let offset = start.checked_mul(sector)?;
    let room = disk.len().checked_sub(offset)?;
    let len = count.checked_mul(sector)?.min(room);
    (start > 0 && len > 0).then_some((offset, len))
}

fn gpt(disk: &dyn ReadAt, sector: u64, lba: u64) -> io::Result<Option<Table>> {
    let Some(offset) = lba.checked_mul(sector) else {
        return Ok(None);
    };
    let Some(header) = disk.get(offset, 512)? else {
        return Ok(None);
    };
    let Some((entries_at, count, size, entries_crc)) = gpt_header(&header, sector, lba) else {
        return Ok(None);
    };
    let len = usize::try_from(count * size).unwrap_or(usize::MAX);
    let Some(array) = disk.get(entries_at, len)? else {
        return Ok(None);
    };
    if crc32(&array) != entries_crc {
        return Ok(None);
    }
    let size = usize::try_from(size).unwrap_or(128);
    let parts = (1u32..)
        .zip(array.chunks_exact(size))
        .filter_map(|(number, entry)| gpt_entry(disk, sector, number, entry))
        .collect();
    Ok(Some(Table {
        kind: TableKind::Gpt,
        id: le::slice(&header, 56, 16)
            .and_then(guid)
            .unwrap_or_default(),
        parts,
    }))
}

/// Offset of the entry array in bytes, number and size of its entries, its checksum (UEFI 2.10, table 5.5).
fn gpt_header(header: &[u8], sector: u64, lba: u64) -> Option<(u64, u32, u32, u32)> {
    let header_size = le::u32(header, 12)?;
    let mut checked = le::slice(header, 0, usize::try_from(header_size).ok()?)?.to_vec();
    if le::slice(header, 0, 8)? != b"EFI PART" || header_size < 92 || le::u64(header, 24)? != lba {
        return None;
    }
    checked.get_mut(16..20)?.fill(0);
    if crc32(&checked) != le::u32(header, 16)? {
        return None;
    }
    let (count, size) = (le::u32(header, 80)?, le::u32(header, 84)?);
    let is_sane = size >= 128
        && size % 8 == 0
        && count <= MAX_GPT_ENTRIES
        && count.checked_mul(size)? <= MAX_GPT_BYTES;
    let entries_at = le::u64(header, 72)?.checked_mul(sector)?;
    is_sane.then_some((entries_at, count, size, le::u32(header, 88)?))
}

/// UEFI 2.10, table 5.6.
fn gpt_entry(disk: &dyn ReadAt, sector: u64, number: u32, entry: &[u8]) -> Option<Part> {
    let kind = guid(le::slice(entry, 0, 16)?)?;
    let (first, last) = (le::u64(entry, 32)?, le::u64(entry, 40)?);
    let count = last.checked_sub(first)?.checked_add(1)?;
    let (offset, len) = span(disk, sector, first, count)?;
    let role = KNOWN_TYPES.iter().find(|(id, _)| *id == kind);
    Some(Part {
        number,
        offset,
        len,
        role: role.map_or("", |(_, role)| role),
        name: utf16(le::slice(entry, 56, 72)?),
        partuuid: guid(le::slice(entry, 16, 16)?).unwrap_or_default(),
        active: false,
    })
}

/// UTF-16LE up to a zero, for people.
fn utf16(bytes: &[u8]) -> String {
    super::sysfs::clean(&uefi::text(bytes)).unwrap_or_default()
}

/// CRC-32 of ISO 3309, as GPT has it.
pub(crate) fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut byte = 0u32;
        while byte < 256 {
            let mut crc = byte;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    (crc >> 1) ^ 0xedb8_8320
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[byte as usize] = crc;
            byte += 1;
        }
        table
    };
    let step = |crc: u32, &byte: &u8| {
        let [low, ..] = crc.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ (crc >> 8)
    };
    !data.iter().fold(!0, step)
}
