//! Security descriptors: shared by keys, counted, in a ring.

use super::cells::{Cells, NIL};
use super::lists::write;
use super::records::{KeySecurity, Record};
use crate::{Error, ErrorKind, Result};

/// Full control of SYSTEM and of Administrators, reading for Users, inherited by subkeys; owner Administrators, group
/// SYSTEM. Self-relative (MS-DTYP 2.4.6): header 20, DACL 76, owner 16, group 12 bytes.
const PLAIN: [u8; 124] =
    *b"\x01\x00\x04\x80\x60\x00\x00\x00\x70\x00\x00\x00\x00\x00\x00\x00\x14\x00\x00\x00\
\x02\x00\x4c\x00\x03\x00\x00\x00\
\x00\x02\x14\x00\x3f\x00\x0f\x00\x01\x01\x00\x00\x00\x00\x00\x05\x12\x00\x00\x00\
\x00\x02\x18\x00\x3f\x00\x0f\x00\x01\x02\x00\x00\x00\x00\x00\x05\x20\x00\x00\x00\x20\x02\x00\x00\
\x00\x02\x18\x00\x19\x00\x02\x00\x01\x02\x00\x00\x00\x00\x00\x05\x20\x00\x00\x00\x21\x02\x00\x00\
\x01\x02\x00\x00\x00\x00\x00\x05\x20\x00\x00\x00\x20\x02\x00\x00\
\x01\x01\x00\x00\x00\x00\x00\x05\x12\x00\x00\x00";

/// The one descriptor of a new hive, with one reference.
pub(super) fn create(cells: &mut Cells) -> Result<u32> {
    let cell = cells.allocate(size_of::<KeySecurity>() + PLAIN.len())?;
    write(cells, cell, 0, &KeySecurity::MAGIC)?;
    write(cells, cell, size_of::<KeySecurity>(), &PLAIN)?;
    let (security, _) = cells.record_mut::<KeySecurity>(cell)?;
    security.next.set(cell);
    security.previous.set(cell);
    security.references.set(1);
    security
        .len
        .set(u32::try_from(PLAIN.len()).unwrap_or_default());
    Ok(cell)
}

/// One more key has it.
pub(super) fn refer(cells: &mut Cells, cell: u32) -> Result<()> {
    if cell == NIL {
        return Ok(());
    }
    let (security, _) = cells.record_mut::<KeySecurity>(cell)?;
    let references = security.references.get().checked_add(1);
    let full = || {
        Error::new(
            ErrorKind::Limit,
            "too many keys share a security descriptor",
        )
    };
    security.references.set(references.ok_or_else(full)?);
    Ok(())
}

/// So many keys fewer have it; it goes with the last one.
pub(super) fn drop_references(cells: &mut Cells, cell: u32, count: u32) -> Result<()> {
    let (security, _) = cells.record_mut::<KeySecurity>(cell)?;
    let left = security.references.get().saturating_sub(count);
    security.references.set(left);
    let (next, previous) = (security.next.get(), security.previous.get());
    if left > 0 {
        return Ok(());
    }
    cells.record_mut::<KeySecurity>(previous)?.0.next.set(next);
    cells
        .record_mut::<KeySecurity>(next)?
        .0
        .previous
        .set(previous);
    cells.release(cell)
}
