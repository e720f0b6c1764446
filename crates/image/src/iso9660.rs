//! Lists the files of an ISO 9660 file system (ECMA-119, 4th edition) and where their bytes lie.
//!
//! Names are those of Rock Ridge (IEEE P1282 draft: NM, over SUSP with its continuations), else Joliet's (Microsoft,
//! Joliet Specification 1.1), else the plain ones without their version. Files may have several extents. Refused: a disk
//! that has only UDF, blocks other than 2048 bytes, interleaved files, records that contradict themselves or lead out
//! of the image, folders in circles, trees beyond the bounds below. Links and relocated folders are left out.

mod records;

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::{Error, ErrorKind, Result};
use records::{Names, Record};

/// Logical sector and, on every medium in use, logical block (6.1.2).
const BLOCK: u64 = 2048;
const BLOCK_BYTES: usize = 2048;
/// Volume descriptors begin behind the system area (6.2.1).
const FIRST_DESCRIPTOR: u64 = 16;
/// A bound for a set without its terminator.
const DESCRIPTORS_MAX: u64 = 64;
/// Standard identifiers: ECMA-119 8.1.2; ECMA-167 3/9.1.2 of UDF's volumes.
const IDENTIFIER: &[u8] = b"CD001";
const UDF: [&[u8]; 3] = [b"BEA01", b"NSR02", b"NSR03"];
const PRIMARY: u8 = 1;
const SUPPLEMENTARY: u8 = 2;
const TERMINATOR: u8 = 255;
/// Escape sequences of a supplementary descriptor (8.5.6), and Joliet's for its three levels.
const ESCAPES: std::ops::Range<usize> = 88..120;
const JOLIET: [&[u8]; 3] = [b"%/@", b"%/C", b"%/E"];
/// Logical block size (8.4.12).
const BLOCK_SIZE: usize = 128;
/// Directory record of the root (8.4.18).
const ROOT_RECORD: std::ops::Range<usize> = 156..190;
/// Bounds on what a hostile image makes us read and keep.
const FOLDER_MAX: u64 = 16 << 20;
const FOLDERS_MAX: usize = 20_000;
const FILES_MAX: usize = 200_000;
const EXTENTS_MAX: usize = 256;
const DEPTH_MAX: usize = 32;
const PATH_MAX: usize = 4096;

/// A file and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoFile {
    /// Path without a leading slash.
    pub path: String,
    /// Offset and length in bytes of each piece, in order.
    pub extents: Vec<(u64, u64)>,
}

impl IsoFile {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        // Each piece was checked against the image's end, and there are few.
        self.extents
            .iter()
            .fold(0, |len, (_, piece)| len.saturating_add(*piece))
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All files of the image, in the order of their folders.
pub fn list(image: &File) -> Result<Vec<IsoFile>> {
    let len = image
        .metadata()
        .map_err(|error| Error::io("asking for the length", error))?
        .len();
    let (primary, joliet) = descriptors(image)?;
    let mut lister = Lister {
        image,
        len,
        names: Names::Plain,
        seen: HashSet::new(),
        files: Vec::new(),
    };
    lister.names = match (lister.rock_ridge(&primary)?, &joliet) {
        (Some(skip), _) => Names::RockRidge { skip },
        (None, Some(_)) => Names::Joliet,
        (None, None) => Names::Plain,
    };
    let root = match lister.names {
        Names::Joliet => joliet.unwrap_or(primary),
        _ => primary,
    };
    lister.walk(root)?;
    Ok(lister.files)
}

/// The roots of the primary and of Joliet's volume descriptor.
fn descriptors(image: &File) -> Result<(Record, Option<Record>)> {
    let (mut primary, mut joliet, mut udf) = (None, None, false);
    for number in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + DESCRIPTORS_MAX {
        let mut descriptor = [0; BLOCK_BYTES];
        if image
            .read_exact_at(&mut descriptor, number * BLOCK)
            .is_err()
        {
            break;
        }
        let identifier = descriptor.get(1..6).unwrap_or_default();
        udf |= UDF.contains(&identifier);
        if identifier != IDENTIFIER {
            // UDF's volume structure follows that of ISO 9660.
            if udf || UDF.contains(&identifier) {
                continue;
            }
            break;
        }
        match descriptor.first() {
            Some(&PRIMARY) if primary.is_none() => primary = Some(root(&descriptor)?),
            Some(&SUPPLEMENTARY) if joliet.is_none() && is_joliet(&descriptor) => {
                joliet = Some(root(&descriptor)?);
            }
            Some(&TERMINATOR) if primary.is_some() => break,
            _ => {}
        }
    }
    match primary {
        Some(primary) => Ok((primary, joliet)),
        None if udf => Err(Error::unsupported(
            "an ISO that has only a UDF file system is not supported; expected ISO 9660",
        )),
        None => Err(Error::corrupt(
            "not an ISO 9660 image: expected CD001 at 0x8001",
        )),
    }
}

fn is_joliet(descriptor: &[u8; BLOCK_BYTES]) -> bool {
    let escapes = descriptor.get(ESCAPES).unwrap_or_default();
    JOLIET.iter().any(|level| escapes.starts_with(level))
}

fn root(descriptor: &[u8; BLOCK_BYTES]) -> Result<Record> {
    let size = descriptor
        .get(BLOCK_SIZE..BLOCK_SIZE + 2)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u16::from_le_bytes);
    if u64::from(size) != BLOCK {
        let message = format!("an ISO with blocks of {size} bytes, expected {BLOCK}");
        return Err(Error::unsupported(message));
    }
    let record = Record::parse(descriptor.get(ROOT_RECORD).unwrap_or_default())?;
    if !record.is_folder {
        return Err(Error::corrupt("the root of the ISO is no folder"));
    }
    Ok(record)
}

struct Lister<'i> {
    image: &'i File,
    len: u64,
    names: Names,
    /// Folders by their offset.
    seen: HashSet<u64>,
    files: Vec<IsoFile>,
}

impl Lister<'_> {
    /// Bytes before each system use field, where the root's `.` says that SUSP is used (SUSP 1.12, 5.3) and names follow.
    fn rock_ridge(&self, root: &Record) -> Result<Option<usize>> {
        let bytes = self.read(root.extent, "the root")?;
        let first = records::split(&bytes).next().transpose()?;
        Ok(first.and_then(|bytes| {
            let record = Record::parse(bytes).ok()?;
            records::susp_skip(record.system_use(bytes))
        }))
    }

    fn walk(&mut self, root: Record) -> Result<()> {
        let mut waiting = vec![(String::new(), root, 0usize)];
        while let Some((path, folder, depth)) = waiting.pop() {
            if !self.seen.insert(folder.extent.0) {
                return Err(Error::corrupt(format!(
                    "the ISO's folder /{path} is in a circle"
                )));
            }
            if self.seen.len() > FOLDERS_MAX || depth > DEPTH_MAX {
                return Err(Error::new(ErrorKind::Limit, "the ISO has too many folders"));
            }
            self.folder(&path, &folder, depth, &mut waiting)?;
        }
        Ok(())
    }

    fn folder(
        &mut self,
        path: &str,
        folder: &Record,
        depth: usize,
        waiting: &mut Vec<(String, Record, usize)>,
    ) -> Result<()> {
        let bytes = self.read(folder.extent, path)?;
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        for (number, bytes) in records::split(&bytes).enumerate() {
            let bytes = bytes?;
            let record = Record::parse(bytes)?;
            if number < 2 && record.is_self_or_parent(bytes) {
                continue;
            }
            let mut more = |extent| self.system_use_more(extent);
            let Some(name) = record.name(bytes, &self.names, &mut more)? else {
                continue;
            };
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            if path.len() > PATH_MAX {
                return Err(Error::new(
                    ErrorKind::Limit,
                    "a path of the ISO is too long",
                ));
            }
            if record.is_folder {
                waiting.push((path, record, depth + 1));
                continue;
            }
            if record.is_interleaved {
                let message = format!("the ISO's file /{path} is interleaved");
                return Err(Error::unsupported(message));
            }
            self.check(record.extent, &path)?;
            pieces.push(record.extent);
            if pieces.len() > EXTENTS_MAX || self.files.len() >= FILES_MAX {
                return Err(Error::new(
                    ErrorKind::Limit,
                    "the ISO has too many files or extents",
                ));
            }
            if !record.more_follow {
                let extents = std::mem::take(&mut pieces);
                self.files.push(IsoFile { path, extents });
            }
        }
        Ok(())
    }

    /// A continuation of system use fields (SUSP 1.12, 5.1): within one block.
    fn system_use_more(&self, (offset, len): (u64, u64)) -> Result<Vec<u8>> {
        if len > BLOCK {
            return Err(Error::corrupt(
                "a continuation of an ISO's name is too long",
            ));
        }
        self.read((offset, len), "a continuation")
    }

    fn read(&self, extent: (u64, u64), what: &str) -> Result<Vec<u8>> {
        if extent.1 > FOLDER_MAX {
            let message = format!("the ISO's folder /{what} has {} bytes", extent.1);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        self.check(extent, what)?;
        let mut bytes = vec![0; usize::try_from(extent.1).unwrap_or_default()];
        self.image
            .read_exact_at(&mut bytes, extent.0)
            .map_err(|error| Error::io("reading a folder of the ISO", error).at(extent.0))?;
        Ok(bytes)
    }

    fn check(&self, (offset, len): (u64, u64), what: &str) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "the ISO is cut off: /{what} ends behind its {:#x} bytes",
                    self.len
                ),
            )
            .at(offset)),
        }
    }
}

#[cfg(test)]
mod tests;
