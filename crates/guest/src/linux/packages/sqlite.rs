//! The one table of SQLite that rpm's database has ("Database File Format", sqlite.org/fileformat2.html): rows of
//! `Packages`, whose second column is a header. Pages that only the write-ahead log has are taken from there.

use std::collections::BTreeMap;
use std::fs::File;

use crate::linux::packages::bytes::{Budget, be16, be32};
use crate::linux::packages::rpm::{BLOB_MAX, PACKAGES_MAX};
use crate::{Error, Result, Root};

const MAGIC: &[u8] = b"SQLite format 3\0";
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;
/// A b-tree of pages of 512 bytes with 2^64 rows is not as deep.
const DEPTH_MAX: usize = 20;
/// Frames of a write-ahead log; rpm's is a few thousand at most.
const FRAMES_MAX: u64 = 1 << 20;

struct Db<'f> {
    file: &'f File,
    page_size: usize,
    /// Bytes of a page that are in use.
    usable: usize,
    wal: Option<File>,
    /// Offset in the log of the newest version of a page.
    newer: BTreeMap<u32, u64>,
    rows: usize,
    budget: Budget,
}

pub(super) fn blobs(
    root: &Root,
    path: &str,
    file: &File,
    each: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    let wal = root.open_file(&format!("{path}-wal")).ok();
    let mut db = Db::open(file, wal)?;
    let mut table = None;
    db.walk(1, 0, &mut |row| {
        // type, name, tbl_name, rootpage, sql
        let columns = columns(row).unwrap_or_default();
        if let [kind, name, _, root_page, ..] = columns.as_slice()
            && *kind == b"table"
            && *name == b"Packages"
        {
            table = Some(integer(root_page));
        }
    })?;
    let table = table.ok_or_else(|| Error::corrupt("expected a table Packages"))?;
    db.walk(table, 0, &mut |row| {
        if let Some([_, blob, ..]) = columns(row).as_deref() {
            each(blob);
        }
    })
}

impl<'f> Db<'f> {
    fn open(file: &'f File, wal: Option<File>) -> Result<Self> {
        let budget = Budget::new();
        let header = budget.piece(file, 0, 100)?;
        if !header.starts_with(MAGIC) {
            return Err(Error::corrupt("expected a database of SQLite 3"));
        }
        let page_size = match be16(&header, 16) {
            Some(1) => 65536,
            Some(size) => usize::from(size),
            None => 0,
        };
        let reserved = header.get(20).copied().map_or(0, usize::from);
        if !page_size.is_power_of_two() || page_size < 512 || page_size - reserved < 480 {
            return Err(Error::corrupt(format!("has pages of {page_size} bytes")));
        }
        let mut db = Self {
            file,
            page_size,
            usable: page_size - reserved,
            wal,
            newer: BTreeMap::new(),
            rows: 0,
            budget,
        };
        db.newer = db.committed()?;
        Ok(db)
    }

    /// Pages of the log's complete transactions ("WAL-index": the last frame of each has the database's size).
    fn committed(&self) -> Result<BTreeMap<u32, u64>> {
        let mut pages = BTreeMap::new();
        let Some(wal) = &self.wal else {
            return Ok(pages);
        };
        let header = self.budget.piece(wal, 0, 32)?;
        // 0x377f0682 or 0x377f0683: byte order of the checksums.
        let known = be32(&header, 0).is_some_and(|magic| magic & !1 == 0x377f_0682);
        let same_size =
            be32(&header, 8).and_then(|size| usize::try_from(size).ok()) == Some(self.page_size);
        let salt = header.get(16..24);
        if !known || !same_size {
            return Ok(pages);
        }
        let mut pending = Vec::new();
        for frame in 0..FRAMES_MAX {
            let at = 32 + frame * (24 + self.page_size as u64);
            let head = self.budget.piece(wal, at, 24)?;
            if head.len() < 24 || head.get(8..16) != salt {
                break;
            }
            pending.push((be32(&head, 0).unwrap_or(0), at + 24));
            if be32(&head, 4).unwrap_or(0) != 0 {
                pages.extend(pending.drain(..));
            }
        }
        Ok(pages)
    }

    fn page(&self, number: u32) -> Result<Vec<u8>> {
        let page = match (self.newer.get(&number), &self.wal) {
            (Some(&at), Some(wal)) => self.budget.piece(wal, at, self.page_size)?,
            _ => {
                let before = u64::from(number).saturating_sub(1);
                self.budget
                    .piece(self.file, before * self.page_size as u64, self.page_size)?
            }
        };
        if number == 0 || page.len() < self.page_size {
            return Err(Error::corrupt(format!("expected a page {number}")));
        }
        Ok(page)
    }

    /// Calls back with the record of every row of a table, from its root page down.
    fn walk(&mut self, number: u32, depth: usize, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let page = self.page(number)?;
        let start = if number == 1 { 100 } else { 0 };
        let kind = page.get(start).copied();
        let cells = usize::from(be16(&page, start + 3).unwrap_or(0));
        let header = if kind == Some(INTERIOR) { 12 } else { 8 };
        // A page that leads back to one above it would do so for ever, but for these.
        self.rows += 1;
        if depth > DEPTH_MAX || self.rows > 4 * PACKAGES_MAX {
            return Err(Error::corrupt("its tables are circular"));
        }
        let cell = |index: usize| be16(&page, start + header + index * 2).map(usize::from);
        match kind {
            Some(INTERIOR) => {
                for at in (0..cells).filter_map(cell) {
                    if let Some(child) = be32(&page, at) {
                        self.walk(child, depth + 1, each)?;
                    }
                }
                match be32(&page, start + 8) {
                    Some(last) => self.walk(last, depth + 1, each),
                    None => Ok(()),
                }
            }
            Some(LEAF) => {
                for at in (0..cells).filter_map(cell) {
                    self.rows += 1;
                    if let Some(row) = self.row(&page, at)? {
                        each(&row);
                    }
                }
                Ok(())
            }
            _ => Err(Error::corrupt(format!(
                "expected a table's page, found type {kind:?}"
            ))),
        }
    }

    /// (The beginning of) a row, of which what does not fit into its page is in a chain of others.
    fn row(&self, page: &[u8], at: usize) -> Result<Option<Vec<u8>>> {
        let mut cell = page.get(at..self.usable).unwrap_or_default();
        let (Some(len), Some(_)) = (varint(&mut cell), varint(&mut cell)) else {
            return Ok(None);
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        // "B-tree Cell Format": how much of a payload stays on the page.
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let local = if len <= most {
            len
        } else {
            let some = least + (len - least) % (self.usable - 4);
            if some <= most { some } else { least }
        };
        let mut row = cell.get(..local).unwrap_or_default().to_vec();
        let mut next = if len > local { be32(cell, local) } else { None };
        while let Some(number) = next.filter(|&number| number != 0) {
            if row.len() >= len.min(BLOB_MAX) {
                break;
            }
            let page = self.page(number)?;
            let take = (len - row.len()).min(self.usable - 4);
            row.extend_from_slice(page.get(4..4 + take).unwrap_or_default());
            next = be32(&page, 0);
        }
        Ok(Some(row))
    }
}

/// Columns of a record ("Record Format"): texts and blobs as they are, integers big endian. The last one may be cut.
fn columns(row: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = row;
    let header = usize::try_from(varint(&mut rest)?).ok()?;
    let mut types = row.get(row.len() - rest.len()..header)?;
    let mut body = row.get(header..)?;
    let mut columns = Vec::new();
    while let Some(kind) = varint(&mut types) {
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            text => (text - 12) / 2,
        };
        let len = usize::try_from(len).ok()?.min(body.len());
        let (column, after) = body.split_at(len);
        columns.push(column);
        body = after;
    }
    Some(columns)
}

fn integer(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |value: u32, &byte| (value << 8) | u32::from(byte))
}

/// A varint: seven bits a byte, the ninth byte has eight.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..9 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if index == 8 {
            return Some((value << 8) | u64::from(byte));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
