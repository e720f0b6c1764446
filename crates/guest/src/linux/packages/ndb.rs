//! rpm's own database "ndb" (SUSE): Packages.db, of pages of slots that point to blobs. All numbers little endian.
//!
//! ```text
//!   header 32 bytes: "RpmP" version generation slot-pages next-package …
//!   slots  16 bytes: "Slot" package block blocks        (up to slot-pages * 4096)
//!   blob   at block * 16: "BlbS" package time length, then the header
//! ```

use std::fs::File;

use crate::linux::packages::bytes::{Budget, le32};
use crate::linux::packages::rpm::{BLOB_MAX, PACKAGES_MAX};
use crate::{Error, Result, Root};

const MAGIC: &[u8] = b"RpmP";
const SLOT: &[u8] = b"Slot";
const BLOB: &[u8] = b"BlbS";
const PAGE: usize = 4096;
const ENTRY: usize = 16;

pub(super) fn blobs(_: &Root, _: &str, file: &File, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    let budget = Budget::new();
    let header = budget.piece(file, 0, 32)?;
    if !header.starts_with(MAGIC) {
        return Err(Error::corrupt("expected the magic RpmP"));
    }
    let pages = usize::try_from(le32(&header, 12).unwrap_or(0)).unwrap_or(0);
    if pages > PACKAGES_MAX * ENTRY / PAGE {
        return Err(Error::corrupt(format!("has {pages} pages of slots")));
    }
    let slots = budget.piece(file, 0, pages * PAGE)?;
    for slot in slots.chunks_exact(ENTRY).skip(32 / ENTRY) {
        let (Some(package), Some(block)) = (le32(slot, 4), le32(slot, 8)) else {
            continue;
        };
        if !slot.starts_with(SLOT) || block == 0 || package == 0 {
            continue;
        }
        let at = u64::from(block) * ENTRY as u64;
        let head = budget.piece(file, at, ENTRY)?;
        let len = le32(&head, 12).and_then(|len| usize::try_from(len).ok());
        if head.starts_with(BLOB)
            && le32(&head, 4) == Some(package)
            && let Some(len) = len
        {
            each(&budget.piece(file, at + ENTRY as u64, len.min(BLOB_MAX))?);
        }
    }
    Ok(())
}
