//! Finds the parent of a differencing disk and checks that it is the one.

use super::footer::Found;
use super::header::Header;
use super::reader::Reader;
use crate::formats::blocks::uuid;
use crate::formats::context::Context;
use crate::{Error, ErrorKind, FileRange, Reference, Result};

/// Opens the disk that one of the names means and whose unique identifier the child states. `Parent Time Stamp` is
/// only warned about: Windows writes 0, or the file's time, which a copy changes.
pub(super) fn open(
    range: &FileRange,
    header: &Header,
    names: &[String],
    context: &mut Context,
) -> Result<Reader> {
    let mut missing = None;
    let mut stranger = None;
    for name in names {
        let found = match context.find(range, Reference::Foreign(name)) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Missing => {
                missing.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        match identify(range, header, &found) {
            Ok(()) => return Reader::open_in(found, context),
            Err(error) => {
                stranger.get_or_insert(error);
            }
        }
    }
    Err(stranger.or(missing).unwrap_or_else(|| {
        Error::corrupt("expected a differencing disk to name its parent, found no name")
            .at(header.offset)
            .in_file(range.label())
    }))
}

/// Refuses a file that is not the disk with the identifier.
fn identify(child: &FileRange, header: &Header, found: &FileRange) -> Result<()> {
    let footer = Found::read(found)?.footer;
    if footer.unique_id != header.parent_unique_id {
        return Err(Error::corrupt(format!(
            "expected the parent's unique identifier {}, as {} states it, found {}: it is another disk",
            uuid(&header.parent_unique_id),
            child.label(),
            uuid(&footer.unique_id)
        ))
        .in_file(found.label()));
    }
    let stamp = header.parent_time_stamp;
    if stamp != 0 && stamp != footer.time_stamp {
        tracing::warn!(
            child = child.label(),
            parent = found.label(),
            "expected the parent's time stamp {stamp}, found {}: the parent may have been written to since",
            footer.time_stamp
        );
    }
    Ok(())
}
