//! Finds the parent of a differencing image by its UUID: the file does not say what the parent is called.

use std::ffi::OsStr;
use std::path::Path;

use super::header::{Header, Id};
use super::reader::Reader;
use crate::formats::context::Context;
use crate::{Error, ErrorKind, FileRange, Reference, Result};

/// Extension of the files whose headers are read.
const EXTENSION: &str = "vdi";

/// Opens the image among the child's neighbours that has the UUID, and that was not written to since.
pub(super) fn open(range: &FileRange, child: &Header, context: &mut Context) -> Result<Reader> {
    let wanted = child.parent_id;
    let mut changed = None;
    let mut looked_at = 0;
    for name in context.list(range)? {
        if !is_vdi(&name) {
            continue;
        }
        let Ok(found) = context.find(range, Reference::Host(name.as_os_str())) else {
            continue;
        };
        looked_at += 1;
        let Ok(header) = Header::read(&found) else {
            continue;
        };
        if header.id != wanted {
            continue;
        }
        if is_unchanged(child.parent_modification_id, header.modification_id) {
            return Reader::open_in(found, context);
        }
        changed.get_or_insert((found, header.modification_id));
    }
    Err(match changed {
        Some((found, id)) => Error::corrupt(format!(
            "expected the parent in its state {}, as {} states it, found {id}: the parent was written to after the \
             snapshot",
            child.parent_modification_id,
            range.label()
        ))
        .in_file(found.label()),
        None => Error::new(
            ErrorKind::Missing,
            format!(
                "expected the parent image {wanted} among the {looked_at} .vdi files beside this one, found none; \
                 hint: put it there, or give the folder that holds both with --base-dir"
            ),
        )
        .in_file(range.label()),
    })
}

fn is_vdi(name: &Path) -> bool {
    name.extension()
        .and_then(OsStr::to_str)
        .is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

/// VirtualBox gives an image a new modification UUID when it is first written to after it was opened; a child that
/// states none does not care.
fn is_unchanged(stated: Id, found: Id) -> bool {
    stated.is_nil() || stated == found
}
