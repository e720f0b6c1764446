//! zip archives (PKWARE APPNOTE 6.3.10), strictly: the central directory counts, and what a local header says must not
//! contradict it.
//!
//! ```text
//! local header | data | [descriptor] | … | central directory | [zip64 end | locator] | end, comment
//! ```
//!
//! Reads stored members where they lie, and deflated (8), zstd (93) and xz (95) ones through [`image::Packing`]. zip64
//! sizes and offsets are read. Refuses: several volumes, two ends, data before or between that no header explains being
//! claimed by two members, members past the central directory, names that differ. A member that is encrypted or of
//! another method is refused when it is asked for.

use image::{FileRange, Packing};

use super::{MAX_MEMBERS, Member, Members};
use crate::error::{Error, ErrorKind, Result, shown};

/// `PK\x05\x06`: end of central directory (4.3.16), 22 bytes and a comment.
const END: &[u8] = b"PK\x05\x06";
const END_LEN: u64 = 22;
const MAX_COMMENT: u64 = 0xffff;
/// `PK\x06\x07`: zip64 end locator (4.3.15), 20 bytes.
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LEN: u64 = 20;
/// `PK\x06\x06`: zip64 end (4.3.14), 56 bytes and more.
const END64: &[u8] = b"PK\x06\x06";
const END64_LEN: u64 = 56;
/// `PK\x01\x02`: central file header (4.3.12), 46 bytes and three texts.
const CENTRAL: &[u8] = b"PK\x01\x02";
const CENTRAL_LEN: usize = 46;
/// `PK\x03\x04`: local file header (4.3.7), 30 bytes and two texts.
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_LEN: u64 = 30;
/// Extra field with 64-bit sizes (4.5.3).
const ZIP64_EXTRA: u16 = 1;
/// Largest central directory that is read: 65 536 members with names of 1000 bytes.
const MAX_CENTRAL: u64 = 64 << 20;

/// General purpose bits (4.4.4).
const ENCRYPTED: u16 = 1 << 0;
const HAS_DESCRIPTOR: u16 = 1 << 3;
const PATCHED: u16 = 1 << 5;
const MASKED: u16 = 1 << 13;

/// True for what begins like a zip archive, an empty one too.
pub(super) fn is_zip(range: &FileRange) -> Result<bool> {
    let len = usize::try_from(range.len().min(4)).unwrap_or(0);
    let head = range.read_vec(0, len)?;
    Ok(head == LOCAL || head == END)
}

/// Little-endian fields, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Where the central directory is.
struct Directory {
    start: u64,
    len: u64,
    entries: u64,
}

/// A central header.
struct Entry {
    made_by: u16,
    flags: u16,
    method: u16,
    crc32: u32,
    packed_len: u64,
    len: u64,
    name: Vec<u8>,
    attributes: u32,
    /// Of the local header.
    offset: u64,
}

/// The members of the zip archive.
pub(super) fn read(whole: &FileRange) -> Result<Members> {
    let directory = directory(whole)?;
    if directory.len > MAX_CENTRAL || directory.entries > MAX_MEMBERS as u64 {
        let message = format!(
            "expected a zip directory of at most {MAX_MEMBERS} members and {MAX_CENTRAL} bytes, found {} and {}",
            directory.entries, directory.len
        );
        return Err(Error::new(ErrorKind::Limit, message));
    }
    let len = usize::try_from(directory.len).unwrap_or(usize::MAX);
    let bytes = whole.read_vec(directory.start, len)?;
    let mut fields = Fields(&bytes);
    let mut members = Members::default();
    let mut claimed: Vec<(u64, u64)> = Vec::new();
    for number in 0..directory.entries {
        let at = directory.start + (len - fields.0.len()) as u64;
        let entry = central_header(&mut fields).map_err(|what| {
            Error::corrupt(format!(
                "expected {what} in entry {number} of the zip directory at {at:#x}"
            ))
        })?;
        let start = local_header(whole, &directory, &entry)?;
        claimed.push((entry.offset, start + entry.packed_len));
        if let Some(member) = member(&entry, start) {
            members.add(&separated(&entry), member)?;
        }
    }
    if !fields.0.is_empty() {
        let message = format!(
            "expected the end of the zip directory after {} members, found {} bytes more",
            directory.entries,
            fields.0.len()
        );
        return Err(Error::corrupt(message));
    }
    claimed.sort_unstable();
    if let Some(pair) = claimed.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        return Err(Error::corrupt(format!(
            "two members of the zip archive overlap at {:#x}",
            pair[1].0
        )));
    }
    Ok(members)
}

/// Finds the directory from the end of the file.
fn directory(whole: &FileRange) -> Result<Directory> {
    let truncated = || {
        let message = format!(
            "truncated archive: expected the end of a zip directory (PK 05 06) in the last {} bytes, found none",
            END_LEN + MAX_COMMENT
        );
        Error::new(ErrorKind::Truncated, message)
    };
    let tail_len = whole.len().min(END_LEN + MAX_COMMENT);
    let tail_start = whole.len() - tail_len;
    let tail = whole.read_vec(tail_start, usize::try_from(tail_len).unwrap_or(0))?;
    // An end whose comment reaches exactly to the end of the file.
    let is_end = |at: &usize| {
        let mut fields = Fields(tail.get(*at..).unwrap_or_default());
        let comment = fields
            .bytes(20)
            .filter(|end| end.starts_with(END))
            .and_then(|_| fields.u16());
        comment.is_some_and(|len| usize::from(len) == fields.0.len())
    };
    let last = tail.len().checked_sub(22).ok_or_else(truncated)?;
    let mut ends = (0..=last).rev().filter(is_end);
    let at = ends.next().ok_or_else(truncated)?;
    if ends.next().is_some() {
        return Err(Error::corrupt(
            "the zip archive has two ends; which one counts is not known",
        ));
    }
    let end_start = tail_start + at as u64;
    let mut fields = Fields(tail.get(at + 4..).unwrap_or_default());
    let parsed = (|| {
        let disks = (fields.u16()?, fields.u16()?);
        let entries = (fields.u16()?, fields.u16()?);
        let (len, start) = (fields.u32()?, fields.u32()?);
        Some((disks, entries, len, start))
    })();
    let (disks, entries, len, start) = parsed.ok_or_else(truncated)?;
    let is_64 = disks == (0xffff, 0xffff)
        || entries.0 == 0xffff
        || entries.1 == 0xffff
        || len == u32::MAX
        || start == u32::MAX;
    let (directory, end) = match zip64_end(whole, end_start)? {
        Some(found) => found,
        None if is_64 => {
            let message = "expected the zip64 end of the directory, found none";
            return Err(Error::corrupt(message));
        }
        None => {
            if disks != (0, 0) || entries.0 != entries.1 {
                return Err(several_volumes());
            }
            let directory = Directory {
                start: start.into(),
                len: len.into(),
                entries: entries.1.into(),
            };
            (directory, end_start)
        }
    };
    // What lies before or after it would be hidden from one reader and not from another.
    if directory.start.checked_add(directory.len) != Some(end) {
        return Err(Error::corrupt(format!(
            "expected the zip directory to end at {end:#x}, found {} bytes from {:#x}",
            directory.len, directory.start
        )));
    }
    Ok(directory)
}

fn several_volumes() -> Error {
    Error::unsupported("zip archives of several volumes are not supported")
}

/// The zip64 end, where a locator stands before the plain end; with its offset.
fn zip64_end(whole: &FileRange, end_start: u64) -> Result<Option<(Directory, u64)>> {
    let Some(locator_start) = end_start.checked_sub(LOCATOR_LEN) else {
        return Ok(None);
    };
    let locator = whole.read_vec(locator_start, 20)?;
    if !locator.starts_with(LOCATOR) {
        return Ok(None);
    }
    let bad =
        |what: &str| Error::corrupt(format!("expected {what} in the zip64 end of the directory"));
    let mut fields = Fields(&locator[4..]);
    let parsed = (|| Some((fields.u32()?, fields.u64()?, fields.u32()?)))();
    let (disk, start, disks) = parsed.ok_or_else(|| bad("a locator"))?;
    if disk != 0 || disks > 1 {
        return Err(several_volumes());
    }
    let room = locator_start
        .checked_sub(start)
        .filter(|room| *room >= END64_LEN)
        .ok_or_else(|| bad("an offset before its locator"))?;
    let end = whole.read_vec(start, 56)?;
    let mut fields = Fields(end.strip_prefix(END64).ok_or_else(|| bad("PK 06 06"))?);
    let parsed = (|| {
        let size = fields.u64()?;
        let _versions = fields.u32()?;
        let disks = (fields.u32()?, fields.u32()?);
        let entries = (fields.u64()?, fields.u64()?);
        Some((size, disks, entries, fields.u64()?, fields.u64()?))
    })();
    let (size, disks, entries, len, directory) = parsed.ok_or_else(|| bad("its fields"))?;
    // The size does not count itself and the signature (4.3.14.1).
    if size.checked_add(12) != Some(room) {
        return Err(bad("a size that reaches to the locator"));
    }
    if disks != (0, 0) || entries.0 != entries.1 {
        return Err(several_volumes());
    }
    let directory = Directory {
        start: directory,
        len,
        entries: entries.1,
    };
    Ok(Some((directory, start)))
}

/// The next central header; an error is what was expected.
fn central_header(fields: &mut Fields<'_>) -> Result<Entry, &'static str> {
    let fixed = fields.bytes(CENTRAL_LEN).ok_or("46 bytes of a header")?;
    let mut head = Fields(fixed.strip_prefix(CENTRAL).ok_or("PK 01 02")?);
    let parsed = (|| {
        let (made_by, _needed) = (head.u16()?, head.u16()?);
        let (flags, method) = (head.u16()?, head.u16()?);
        let _time = head.u32()?;
        let (crc32, packed, len) = (head.u32()?, head.u32()?, head.u32()?);
        let texts = (head.u16()?, head.u16()?, head.u16()?);
        let (disk, _internal) = (head.u16()?, head.u16()?);
        let (attributes, offset) = (head.u32()?, head.u32()?);
        Some((
            made_by, flags, method, crc32, packed, len, texts, disk, attributes, offset,
        ))
    })();
    let (made_by, flags, method, crc32, packed, len, texts, disk, attributes, offset) =
        parsed.ok_or("46 bytes of a header")?;
    let name = fields.bytes(texts.0.into()).ok_or("a name")?;
    let extra = fields.bytes(texts.1.into()).ok_or("extra fields")?;
    fields.bytes(texts.2.into()).ok_or("a comment")?;
    let (mut len, mut packed_len) = (u64::from(len), u64::from(packed));
    let mut offset = u64::from(offset);
    let wide = zip64_extra(extra, [&mut len, &mut packed_len, &mut offset])?;
    if !(disk == 0 || disk == 0xffff && wide) {
        return Err("a member on this volume");
    }
    if name.is_empty() || name.contains(&0) {
        return Err("a name");
    }
    Ok(Entry {
        made_by,
        flags,
        method,
        crc32,
        packed_len,
        len,
        name: name.to_owned(),
        attributes,
        offset,
    })
}

/// Replaces the fields that are all ones by those of the zip64 extra field, which holds only these, in this order
/// (4.5.3). Says whether there is such a field.
fn zip64_extra<const N: usize>(extra: &[u8], wanted: [&mut u64; N]) -> Result<bool, &'static str> {
    let mut fields = Fields(extra);
    let mut found: Option<&[u8]> = None;
    // What is too short for a field is padding: Android's tools align by it.
    while fields.0.len() >= 4 {
        let head = fields.u16().zip(fields.u16());
        let (id, len) = head.ok_or("an extra field")?;
        let data = fields.bytes(len.into()).ok_or("a whole extra field")?;
        if id == ZIP64_EXTRA && found.replace(data).is_some() {
            return Err("one zip64 extra field");
        }
    }
    let mut values = Fields(found.unwrap_or_default());
    for field in wanted {
        if *field == u64::from(u32::MAX) && found.is_some() {
            *field = values.u64().ok_or("64-bit sizes")?;
        }
    }
    Ok(found.is_some())
}

/// Compares the local header with the central one. Returns where the data start.
fn local_header(whole: &FileRange, directory: &Directory, entry: &Entry) -> Result<u64> {
    let name = String::from_utf8_lossy(&entry.name);
    let bad = |what: String| {
        Error::corrupt(format!(
            "member `{}` at {:#x}: expected {what}",
            shown(&name),
            entry.offset
        ))
    };
    let fits = |start: u64, len: u64| start.checked_add(len).filter(|end| *end <= directory.start);
    let past = || bad("it before the zip directory, found it reaching into that".to_owned());
    fits(entry.offset, LOCAL_LEN).ok_or_else(past)?;
    let fixed = whole.read_vec(entry.offset, 30)?;
    let local = fixed.strip_prefix(LOCAL);
    let mut fields = Fields(local.ok_or_else(|| bad("a local header, PK 03 04".to_owned()))?);
    let parsed = (|| {
        let _needed = fields.u16()?;
        let (flags, method) = (fields.u16()?, fields.u16()?);
        let _time = fields.u32()?;
        let (crc32, packed, len) = (fields.u32()?, fields.u32()?, fields.u32()?);
        Some((
            flags,
            method,
            crc32,
            packed,
            len,
            fields.u16()?,
            fields.u16()?,
        ))
    })();
    let (flags, method, crc32, packed, len, name_len, extra_len) =
        parsed.ok_or_else(|| bad("a local header".to_owned()))?;
    let texts = u64::from(name_len) + u64::from(extra_len);
    let start = fits(entry.offset + LOCAL_LEN, texts).ok_or_else(past)?;
    fits(start, entry.packed_len).ok_or_else(past)?;
    let texts = usize::try_from(texts).unwrap_or(0);
    let texts = whole.read_vec(entry.offset + LOCAL_LEN, texts)?;
    let (local_name, extra) = texts.split_at(usize::from(name_len));
    if local_name != entry.name {
        let found = String::from_utf8_lossy(local_name);
        return Err(bad(format!(
            "its name in the local header, found `{}`",
            shown(&found)
        )));
    }
    if method != entry.method || (flags ^ entry.flags) & ENCRYPTED != 0 {
        return Err(bad("the same method in both headers".to_owned()));
    }
    let (mut len, mut packed) = (u64::from(len), u64::from(packed));
    zip64_extra(extra, [&mut len, &mut packed]).map_err(|what| bad(what.to_owned()))?;
    let same = (crc32, packed, len) == (entry.crc32, entry.packed_len, entry.len);
    // With a descriptor after the data the local fields are zero (4.4.4, bit 3), or already right.
    let later = flags & HAS_DESCRIPTOR != 0
        && (crc32 == 0 || crc32 == entry.crc32)
        && [(packed, entry.packed_len), (len, entry.len)]
            .iter()
            .all(|(local, central)| *local == 0 || local == central);
    if !same && !later {
        return Err(bad(format!(
            "CRC-32 and lengths {:08x}, {}, {} in the local header, found {crc32:08x}, {packed}, {len}",
            entry.crc32, entry.packed_len, entry.len
        )));
    }
    Ok(start)
}

/// What a reader needs; `None` for folders and links.
fn member(entry: &Entry, start: u64) -> Option<Member> {
    /// Upper byte of "version made by" (4.4.2): attributes hold a Unix mode in their upper half.
    const UNIX: u16 = 3;
    /// S_IFMT and S_IFLNK of POSIX <sys/stat.h>.
    const FORMAT: u32 = 0o170_000;
    const LINK: u32 = 0o120_000;
    if entry.made_by >> 8 == UNIX && (entry.attributes >> 16) & FORMAT == LINK {
        return None;
    }
    let packing = match entry.method {
        8 => Some(Packing::Deflate {
            crc32: entry.crc32,
            len: entry.len,
        }),
        93 => Some(Packing::Zstd),
        95 => Some(Packing::Xz),
        _ => None,
    };
    let refused = match entry.method {
        _ if entry.flags & (ENCRYPTED | MASKED) != 0 => Some("is encrypted"),
        _ if entry.flags & PATCHED != 0 => Some("is a patch of another file"),
        0 if entry.packed_len != entry.len => Some("is stored with two different lengths"),
        0 | 8 | 93 | 95 => None,
        9 => Some("is packed by Deflate64, which is not supported"),
        12 => Some("is packed by bzip2, which is not supported"),
        14 => Some("is packed by LZMA, which is not supported"),
        _ => Some("is packed by a method that is not supported"),
    };
    Some(Member {
        start,
        len: entry.packed_len,
        packing,
        content: Some((entry.len, entry.crc32)),
        refused,
    })
}

/// The name with `/` between its parts: programs on Windows wrote `\` although 4.4.17.1 forbids it.
fn separated(entry: &Entry) -> Vec<u8> {
    let mut name = entry.name.clone();
    if entry.made_by >> 8 == 0 && !name.contains(&b'/') {
        name.iter_mut()
            .filter(|byte| **byte == b'\\')
            .for_each(|byte| *byte = b'/');
    }
    name
}

#[cfg(test)]
mod tests;
