//! Berkeley DB's hash access method, as rpm used it up to RHEL 8 and SLES 12: `Packages`.
//!
//! The pages are read one after the other, as which bucket they belong to does not matter. A page has 26 bytes of
//! header (number at 8, next page at 16, entries at 20, end of data at 22, type at 25), then offsets of its items from
//! its end downwards: keys and values by turns (Berkeley DB 4/5 reference, dbinc/db_page.h). Numbers are in the byte
//! order of the machine that made the file.

use std::fs::File;

use crate::linux::packages::bytes::{Budget, be32};
use crate::linux::packages::rpm::BLOB_MAX;
use crate::{Error, Result, Root};

const HASH_MAGIC: u32 = 0x0006_1561;
const PAGE_HEADER: usize = 26;
/// Types of pages.
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH: u8 = 13;
/// Types of items.
const KEYDATA: u8 = 1;
const OFFPAGE: u8 = 3;
/// A database larger than this is none (Packages of a full system has some 200 MB).
const FILE_MAX: u64 = 4 << 30;

struct Db<'f> {
    file: &'f File,
    page_size: usize,
    swapped: bool,
    pages: u32,
    budget: Budget,
}

pub(super) fn blobs(_: &Root, _: &str, file: &File, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    let db = Db::open(file)?;
    for number in 1..db.pages {
        let page = db.page(number)?;
        if !matches!(page.get(25), Some(&HASH | &HASH_UNSORTED)) {
            continue;
        }
        let entries = usize::from(db.u16(&page, 20).unwrap_or(0));
        let mut end = page.len();
        for index in 0..entries {
            let Some(start) = db.u16(&page, PAGE_HEADER + index * 2).map(usize::from) else {
                break;
            };
            let item = page.get(start..end).unwrap_or_default();
            end = start;
            // Keys have even numbers.
            if index % 2 == 0 {
                continue;
            }
            match item.first() {
                Some(&KEYDATA) => each(item.get(1..).unwrap_or_default()),
                Some(&OFFPAGE) => {
                    if let Some(first) = db.u32(item, 4) {
                        each(&db.overflow(first)?);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

impl<'f> Db<'f> {
    fn open(file: &'f File) -> Result<Self> {
        let budget = Budget::new();
        let meta = budget.piece(file, 0, 512)?;
        let magic = be32(&meta, 12).unwrap_or(0);
        let little = magic.swap_bytes() == HASH_MAGIC;
        if !little && magic != HASH_MAGIC {
            return Err(Error::corrupt(
                "expected the magic of a hash of Berkeley DB",
            ));
        }
        let mut db = Self {
            file,
            page_size: 512,
            swapped: little,
            pages: 0,
            budget,
        };
        let page_size = db.u32(&meta, 20).unwrap_or(0);
        if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
            return Err(Error::corrupt(format!("has pages of {page_size} bytes")));
        }
        let len = file
            .metadata()
            .map_err(|error| Error::io("asking for the length", error))?
            .len();
        db.page_size = usize::try_from(page_size).unwrap_or(512);
        db.pages = u32::try_from(len.min(FILE_MAX) / u64::from(page_size)).unwrap_or(0);
        Ok(db)
    }

    fn page(&self, number: u32) -> Result<Vec<u8>> {
        self.budget.piece(
            self.file,
            u64::from(number) * self.page_size as u64,
            self.page_size,
        )
    }

    /// Value that has pages of its own.
    fn overflow(&self, first: u32) -> Result<Vec<u8>> {
        let mut value = Vec::new();
        let mut number = first;
        while number != 0 && number < self.pages && value.len() < BLOB_MAX {
            let page = self.page(number)?;
            let len = usize::from(self.u16(&page, 22).unwrap_or(0));
            let data = page.get(PAGE_HEADER..PAGE_HEADER + len).unwrap_or_default();
            if page.get(25) != Some(&OVERFLOW) || data.is_empty() {
                break;
            }
            value.extend_from_slice(data);
            number = self.u32(&page, 16).unwrap_or(0);
        }
        Ok(value)
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let value = be32(bytes, at)?;
        Some(if self.swapped {
            value.swap_bytes()
        } else {
            value
        })
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let pair = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.swapped {
            u16::from_le_bytes(pair)
        } else {
            u16::from_be_bytes(pair)
        })
    }
}
