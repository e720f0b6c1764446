//! The members of a tar archive, to be read in place.
//!
//! Reads POSIX.1-1988 (ustar), POSIX.1-2001 (pax) and GNU tar headers: long names of both kinds, sizes past 8 GiB in
//! base-256 or by pax `size`. Refuses GNU sparse members (their bytes do not lie in one run), multi-volume archives,
//! two members of one name, members that reach past the end of the file. Ignores links, devices and members
//! with an absolute or climbing name: no reference can name them.
//!
//! The walk over the headers is our own although the `tar` crate has one: that one collects a long name or pax header
//! of any length in memory, takes a pax value that holds a newline for damage, and reports a truncated member
//! at its full length. Header fields are decoded by the crate.

use ::tar::{EntryType, Header};
use image::FileRange;

use super::{Member, Members, not_an_archive};
use crate::error::{Error, ErrorKind, Result, shown};

/// Unit of a tar archive (POSIX.1-2017, pax, "ustar Interchange Format").
const BLOCK_SIZE: u64 = 512;
/// Offset of the size field of a header.
const SIZE_FIELD: usize = 124;
/// Range of the checksum field of a header.
const CHECKSUM_FIELD: std::ops::Range<usize> = 148..156;
/// Longest name: PATH_MAX of Linux.
const MAX_NAME_SIZE: u64 = 4096;
/// Longest pax header; extended attributes make them large.
const MAX_PAX_SIZE: u64 = 1 << 20;

/// What extension headers say about the member that follows them.
#[derive(Debug, Default)]
struct Extension {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

/// The members of the tar archive.
pub(super) fn read(whole: &FileRange) -> Result<Members> {
    let mut members = Members::default();
    walk(whole, &mut members)?;
    Ok(members)
}

fn walk(whole: &FileRange, members: &mut Members) -> Result<()> {
    if whole.is_empty() {
        return Err(not_an_archive(b""));
    }
    let mut offset = 0;
    let mut extension = Extension::default();
    while offset < whole.len() {
        let Some(header) = read_header(whole, offset)? else {
            break;
        };
        let data = offset + BLOCK_SIZE;
        let kind = header.entry_type();
        let stored = stored_size(&header, offset)?;
        let len = if is_extension(kind) {
            stored
        } else {
            extension.size.take().unwrap_or(stored)
        };
        let end = data.checked_add(len).filter(|&end| end <= whole.len());
        let Some(end) = end else {
            let name = extension
                .name
                .unwrap_or_else(|| header.path_bytes().into_owned());
            let message = format!(
                "truncated archive: expected {len} bytes of member `{}` from {data:#x}, but the file ends at {:#x}",
                shown(&String::from_utf8_lossy(&name)),
                whole.len()
            );
            return Err(Error::new(ErrorKind::Truncated, message));
        };
        match kind {
            EntryType::GNULongName => {
                let mut name = read_extension(whole, data, len, MAX_NAME_SIZE, "long name")?;
                if let Some(stop) = name.iter().position(|&byte| byte == 0) {
                    name.truncate(stop);
                }
                extension.name = Some(name);
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => {}
            EntryType::XHeader => {
                let records = read_extension(whole, data, len, MAX_PAX_SIZE, "pax header")?;
                read_pax(&records, &mut extension)?;
            }
            EntryType::Regular | EntryType::Continuous => {
                let name = extension
                    .name
                    .take()
                    .unwrap_or_else(|| header.path_bytes().into_owned());
                members.add(&name, Member::plain(data, len))?;
            }
            EntryType::GNUSparse => return Err(sparse(&header.path_bytes())),
            other => {
                skip(other)?;
                extension = Extension::default();
            }
        }
        offset = end.div_ceil(BLOCK_SIZE).saturating_mul(BLOCK_SIZE);
    }
    Ok(())
}

/// True for headers that describe the next one.
fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::XGlobalHeader
            | EntryType::XHeader
    )
}

/// Types that hold nothing for us pass, types that change the meaning of the archive do not.
fn skip(kind: EntryType) -> Result<()> {
    /// GNU tar: the rest of a member that began on another volume.
    const MULTI_VOLUME: u8 = b'M';
    if kind.as_byte() == MULTI_VOLUME {
        return Err(Error::unsupported(
            "multi-volume tar archives are not supported",
        ));
    }
    Ok(())
}

fn sparse(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    Error::unsupported(format!(
        "member `{}` is a GNU sparse file, which is not supported",
        shown(&name)
    ))
}

/// The header at `offset`; `None` at the zero block that ends the archive.
fn read_header(whole: &FileRange, offset: u64) -> Result<Option<Header>> {
    let mut header = Header::new_old();
    let block = header.as_mut_bytes();
    if whole.len() - offset < BLOCK_SIZE {
        if offset == 0 {
            let head = whole.read_vec(0, usize::try_from(whole.len()).unwrap_or(0))?;
            return Err(not_an_archive(&head));
        }
        let message = format!(
            "truncated archive: expected a header at {offset:#x}, but the file ends at {:#x}",
            whole.len()
        );
        return Err(Error::new(ErrorKind::Truncated, message));
    }
    whole.read_exact_at(block, offset)?;
    if offset > 0 && block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let sum = |(index, &byte): (usize, &u8)| {
        u32::from(if CHECKSUM_FIELD.contains(&index) {
            b' '
        } else {
            byte
        })
    };
    let computed: u32 = block.iter().enumerate().map(sum).sum();
    if header.cksum().ok() == Some(computed) {
        return Ok(Some(header));
    }
    if offset == 0 {
        return Err(not_an_archive(header.as_bytes()));
    }
    Err(Error::corrupt(format!(
        "expected a tar header at {offset:#x}, found one with a wrong checksum"
    )))
}

/// The size field: octal, or base-256 of which the crate reads the low 64 bits.
fn stored_size(header: &Header, offset: u64) -> Result<u64> {
    let bad = || Error::corrupt(format!("the tar header at {offset:#x} has no valid size"));
    let field = &header.as_bytes()[SIZE_FIELD..SIZE_FIELD + 4];
    if field[0] & 0x80 != 0 && field != [0x80, 0, 0, 0] {
        return Err(bad());
    }
    header.entry_size().map_err(|_| bad())
}

fn read_extension(
    whole: &FileRange,
    start: u64,
    len: u64,
    max: u64,
    what: &str,
) -> Result<Vec<u8>> {
    match usize::try_from(len) {
        Ok(size) if len <= max => Ok(whole.read_vec(start, size)?),
        _ => Err(Error::new(
            ErrorKind::Limit,
            format!("expected a {what} of at most {max} bytes, found {len}"),
        )),
    }
}

/// Records `LENGTH KEY=VALUE\n` (POSIX.1-2017, pax, "pax Header Block"); the length counts the whole record.
fn read_pax(records: &[u8], extension: &mut Extension) -> Result<()> {
    let bad = || Error::corrupt("a pax header of the archive is malformed");
    let mut rest = records;
    while !rest.is_empty() {
        let space = rest.iter().position(|&byte| byte == b' ').ok_or_else(bad)?;
        let digits = std::str::from_utf8(&rest[..space]).map_err(|_| bad())?;
        let len: usize = digits.parse().map_err(|_| bad())?;
        let record = rest
            .get(space + 1..len)
            .and_then(|record| record.strip_suffix(b"\n"))
            .ok_or_else(bad)?;
        let equals = record
            .iter()
            .position(|&byte| byte == b'=')
            .ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" if value.len() as u64 > MAX_NAME_SIZE => {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("a name of the archive is longer than {MAX_NAME_SIZE} bytes"),
                ));
            }
            b"path" => extension.name = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value)
                    .ok()
                    .and_then(|value| value.parse().ok());
                extension.size = Some(size.ok_or_else(bad)?);
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(sparse(extension.name.as_deref().unwrap_or(b"?")));
            }
            _ => {}
        }
        rest = &rest[len..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
