//! The parent of a delta disk, a snapshot or a linked clone (VDF 1.1, Delta Links): found by the hint, and checked
//! by the content id that the delta noted when it was made.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use super::descriptor::Descriptor;
use super::reader::{self, Reader};
use crate::formats::context::Context;
use crate::{Error, ErrorKind, FileRange, Reference, Result};

/// Opens the parent of the disk in `child`, if it has one.
pub(super) fn open(
    child: &FileRange,
    descriptor: &Descriptor,
    context: &mut Context,
) -> Result<Option<Arc<Reader>>> {
    match (
        &descriptor.parent_name,
        descriptor.parent_cid,
        descriptor.parent_uuid(),
    ) {
        (Some(name), Some(cid), _) => {
            let range = name.find(child, context)?;
            let parent = open_range(child, range, context, name.text())?;
            check_content_id(child, &parent, cid)?;
            Ok(Some(parent))
        }
        (None, Some(cid), None) => Err(Error::new(
            ErrorKind::Missing,
            format!(
                "expected parentFileNameHint for the parent with the content id {cid:08x}, found none"
            ),
        )),
        (_, _, Some(uuid)) => of_virtualbox(child, descriptor, &uuid, context).map(Some),
        (Some(name), None, None) => Err(Error::corrupt(format!(
            "expected parentCID for the parent {:?}, found none; hint: if the disk has no parent, remove \
             parentFileNameHint from a copy of the descriptor",
            name.text()
        ))),
        (None, None, None) => Ok(None),
    }
}

fn open_range(
    child: &FileRange,
    range: FileRange,
    context: &mut Context,
    name: &str,
) -> Result<Arc<Reader>> {
    // A linked clone may have the very name of its parent, which is in another folder.
    if range.id().is_some() && range.id() == child.id() {
        return Err(Error::new(
            ErrorKind::Missing,
            format!(
                "expected the parent {name:?}, found only the image itself under that name; hint: allow the \
                 folder of both with --base-dir"
            ),
        ));
    }
    Reader::open_in(range, context).map(Arc::new)
}

fn check_content_id(child: &FileRange, parent: &Reader, expected: u32) -> Result<()> {
    let found = parent.descriptor().and_then(|descriptor| descriptor.cid);
    if found == Some(expected) {
        return Ok(());
    }
    let found = found.map_or("none".to_owned(), |cid| format!("{cid:08x}"));
    Err(Error::corrupt(format!(
        "expected a parent with the content id {expected:08x}, found {found} in {}; the parent was changed after {} \
         was made, or is another disk",
        parent.label(),
        child.label()
    )))
}

/// VirtualBox names a snapshot's file by its UUID. The first disk of a chain has a name of its own, which only the
/// machine's settings know; it is looked for among the files beside the child.
fn of_virtualbox(
    child: &FileRange,
    descriptor: &Descriptor,
    uuid: &str,
    context: &mut Context,
) -> Result<Arc<Reader>> {
    let name = format!("{{{uuid}}}.vmdk");
    let range = match context.find(child, Reference::Foreign(&name)) {
        Ok(range) => range,
        Err(error) if error.kind() == ErrorKind::Missing => by_uuid(child, uuid, context)?,
        Err(error) => return Err(error),
    };
    let parent = open_range(child, range, context, &name)?;
    let of_parent = |key: &str| parent.descriptor().and_then(|d| d.uuid(key));
    let found = of_parent("uuid.image");
    if found.as_deref() != Some(uuid) {
        return Err(Error::corrupt(format!(
            "expected a parent with the UUID {uuid}, found {} in {}",
            found.as_deref().unwrap_or("none"),
            parent.label()
        )));
    }
    let noted = descriptor.uuid("uuid.parentmodification");
    if noted.is_some() && noted != of_parent("uuid.modification") {
        return Err(Error::corrupt(format!(
            "expected a parent with the modification UUID {}, found {} in {}; the parent was changed after {} was made",
            noted.unwrap_or_default(),
            of_parent("uuid.modification").as_deref().unwrap_or("none"),
            parent.label(),
            child.label()
        )));
    }
    Ok(parent)
}

/// The one .vmdk among the child's neighbours whose descriptor has the UUID.
fn by_uuid(child: &FileRange, uuid: &str, context: &Context) -> Result<FileRange> {
    let is_vmdk = |name: &&PathBuf| {
        let extension = name.extension().and_then(OsStr::to_str);
        extension.is_some_and(|extension| extension.eq_ignore_ascii_case("vmdk"))
    };
    for name in context.list(child)?.iter().filter(is_vmdk) {
        let Ok(found) = context.find(child, Reference::Host(name.as_os_str())) else {
            continue;
        };
        let descriptor = reader::descriptor_of(&found).ok().flatten();
        if descriptor
            .is_some_and(|descriptor| descriptor.uuid("uuid.image").as_deref() == Some(uuid))
        {
            return Ok(found);
        }
    }
    Err(Error::new(
        ErrorKind::Missing,
        format!(
            "expected the VirtualBox disk {uuid}, the parent, among the files beside the image, found none; hint: put \
             it there, or give the folder that holds both with --base-dir"
        ),
    ))
}
