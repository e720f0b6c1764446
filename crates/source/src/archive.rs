//! A tar archive as an index of members that are read in place; nothing is ever unpacked.
//!
//! Reads POSIX.1-1988 (ustar), POSIX.1-2001 (pax) and GNU tar headers: long names of both kinds, sizes past 8 GiB in
//! base-256 or by pax `size`. Refuses GNU sparse members (their bytes do not lie in one run), multi-volume archives,
//! two members of one name, members that reach past the end of the file. Ignores links, devices and members
//! with an absolute or climbing name: no reference can name them.
//!
//! The walk over the headers is our own although the `tar` crate has one: that one collects a long name or pax header
//! of any length in memory, takes a pax value that holds a newline for damage, and reports a truncated member
//! at its full length. Header fields are decoded by the crate.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use image::FileRange;
use tar::{EntryType, Header};

use crate::error::{Error, ErrorKind, Result, shown};
use crate::{href, sniff};

/// Unit of a tar archive (POSIX.1-2017, pax, "ustar Interchange Format").
const BLOCK_SIZE: u64 = 512;
/// Offset of the size field of a header.
const SIZE_FIELD: usize = 124;
/// Range of the checksum field of a header.
const CHECKSUM_FIELD: std::ops::Range<usize> = 148..156;
/// Members that are indexed; a chunked disk of 8 TiB in 1 GiB pieces has 8192.
const MAX_MEMBERS: usize = 65_536;
/// Longest name: PATH_MAX of Linux.
const MAX_NAME_SIZE: u64 = 4096;
/// Longest pax header; extended attributes make them large.
const MAX_PAX_SIZE: u64 = 1 << 20;

/// Members of a tar archive by name.
#[derive(Debug)]
pub(crate) struct Archive {
    file: Arc<File>,
    label: String,
    members: BTreeMap<String, Member>,
    /// Names that were ignored, for a warning.
    pub(crate) ignored: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    start: u64,
    len: u64,
}

/// What extension headers say about the member that follows them.
#[derive(Debug, Default)]
struct Extension {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Archive {
    /// Indexes the archive at `path`; costs one small read for each member.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let file = File::open(path).map_err(|e| Error::io("opening", e).in_file(&label))?;
        let meta = file
            .metadata()
            .map_err(|e| Error::io("reading its status", e).in_file(&label))?;
        if !meta.is_file() {
            let message = "expected a regular file, a folder or an .ovf file";
            return Err(Error::new(ErrorKind::Usage, message).in_file(&label));
        }
        let file = Arc::new(file);
        let whole = FileRange::part(file.clone(), 0, meta.len(), label.as_str())?;
        let mut archive = Self {
            file,
            label,
            members: BTreeMap::new(),
            ignored: Vec::new(),
        };
        let result = archive.walk(&whole);
        result
            .map_err(|e| e.in_file(&archive.label))
            .map(|()| archive)
    }

    /// Names of all regular members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// The bytes of a member, if there is one of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Option<FileRange>> {
        let Some(member) = self.members.get(name) else {
            return Ok(None);
        };
        let label = format!("{}:{}", self.label, shown(name));
        Ok(Some(FileRange::part(
            self.file.clone(),
            member.start,
            member.len,
            label,
        )?))
    }

    fn walk(&mut self, whole: &FileRange) -> Result<()> {
        if whole.is_empty() {
            return Err(Error::corrupt(sniff::not_a_tar(b"")));
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
                    self.add(&name, Member { start: data, len })?;
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

    fn add(&mut self, name: &[u8], member: Member) -> Result<()> {
        let name = String::from_utf8_lossy(name);
        if name.ends_with('/') {
            return Ok(()); // a folder, as tar wrote them before it had a type for them
        }
        if name.starts_with('/') || name.split('/').any(|part| part == "..") {
            self.ignored.push(name.into_owned());
            return Ok(());
        }
        let Some(name) = href::tidy(&name) else {
            return Ok(());
        };
        if self.members.len() >= MAX_MEMBERS {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected at most {MAX_MEMBERS} members, found more"),
            ));
        }
        if self.members.insert(name.clone(), member).is_some() {
            return Err(Error::corrupt(format!(
                "two members are named `{}`",
                shown(&name)
            )));
        }
        Ok(())
    }
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
            return Err(Error::corrupt(sniff::not_a_tar(&head)));
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
        return Err(Error::corrupt(sniff::not_a_tar(header.as_bytes())));
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
