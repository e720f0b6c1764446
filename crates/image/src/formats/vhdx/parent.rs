//! Finds and opens the parent of a differencing disk: MS-VHDX 2.6.2.6.3.

use std::sync::Arc;

use super::header::{FILE_SIGNATURE, Headers};
use super::locator::Locator;
use super::pages::Pages;
use super::reader::Reader;
use crate::formats::context::{Context, Parent};
use crate::{Error, ErrorKind, FileRange, Reference, Result};

/// Opens the parent that `child` names: of the files that its paths mean, the first whose `DataWriteGuid` is the one
/// that the child expects.
pub(super) fn open(
    child: &FileRange,
    locator: &Locator,
    context: &mut Context,
    pages: &Arc<Pages>,
) -> Result<Parent> {
    let (mut missing, mut wrong) = (None, None);
    for path in &locator.paths {
        let found = match context.find(child, Reference::Foreign(path)) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Missing => {
                missing.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        match check_identity(child, &found, locator) {
            Ok(()) => {
                let reader = Reader::open_layer(found, context, pages)?;
                return Ok(Parent::new(Arc::new(reader)));
            }
            Err(error) => wrong = wrong.or(Some(error)),
        }
    }
    Err(wrong.or(missing).unwrap_or_else(|| {
        Error::corrupt("expected the path of a parent, found none").in_file(child.label())
    }))
}

/// Checks that `found` is the parent that the child was made from, unchanged.
fn check_identity(child: &FileRange, found: &FileRange, locator: &Locator) -> Result<()> {
    let head = found.len().min(FILE_SIGNATURE.len() as u64);
    if found.read_vec(0, super::to_usize(head))? != FILE_SIGNATURE {
        return Err(Error::corrupt(format!(
            "expected a VHDX file as the parent of {}, found another format",
            child.label()
        ))
        .in_file(found.label()));
    }
    let headers = Headers::read(found).map_err(|e| e.in_file(found.label()))?;
    let identity = headers.current.data_write_guid;
    if locator.linkages.contains(&identity) {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "not the parent of {}, or changed since the child was made: expected the DataWriteGuid {}, found {identity}",
        child.label(),
        locator.expected()
    ))
    .at(headers.current.offset)
    .in_file(found.label()))
}
