//! Changes the virtual size of an image in place: `v2v image resize`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::raw::check_virtual_size;
use super::{Format, OpenOptions, open_range, qcow2};
use crate::{Error, ErrorKind, FileRange, Result};

/// Sectors are 512 bytes; a size is rounded up to whole ones.
const SECTOR: u64 = 512;

/// The size that an image is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewSize {
    /// This many bytes.
    Exactly(u64),
    /// This many bytes more than now.
    More(u64),
    /// This many bytes less than now.
    Less(u64),
}

impl NewSize {
    fn of(self, old: u64) -> Result<u64> {
        let new = match self {
            Self::Exactly(size) => Some(size),
            Self::More(bytes) => old.checked_add(bytes),
            Self::Less(bytes) => old.checked_sub(bytes),
        };
        new.and_then(|size| size.checked_next_multiple_of(SECTOR))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    format!(
                        "expected a size from 0 up to {}, found {self:?} of {old}",
                        i64::MAX
                    ),
                )
            })
    }
}

/// Resizes the image at `path`, raw or qcow2, and returns the old size and the new one in bytes. Only raw can be
/// made smaller, and only with `shrink`. An image that another program has open is refused.
pub fn resize(
    path: &Path,
    format: Option<Format>,
    size: NewSize,
    shrink: bool,
) -> Result<(u64, u64)> {
    let in_path = |e: Error| e.in_path(path);
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| in_path(Error::io("opening for writing", e)))?;
    let meta = file
        .metadata()
        .map_err(|e| in_path(Error::io("reading its status", e)))?;
    if !meta.is_file() {
        return Err(in_path(Error::new(
            ErrorKind::Usage,
            "expected a regular file: a device cannot be resized",
        )));
    }
    lock_exclusively(&file).map_err(in_path)?;
    let file = Arc::new(file);
    let range = FileRange::part(Arc::clone(&file), 0, meta.len(), path.display().to_string())?;
    let format = match format {
        Some(format) => format,
        None => Format::probe(&range)?,
    };
    if !matches!(format, Format::Raw | Format::Qcow2) {
        return Err(in_path(Error::unsupported(format!(
            "the format {format} is not resized (raw and qcow2 are); hint: v2v image convert -O qcow2 first"
        ))));
    }
    let options = OpenOptions {
        files: Some(crate::Files::beside(path)),
        ..OpenOptions::with_format(Some(format))
    };
    let source = open_range(range.clone(), &options)?;
    let old = match format {
        // The last sector may not be whole.
        Format::Raw => meta.len(),
        _ => source.virtual_size(),
    };
    let new = size.of(old).map_err(in_path)?;
    check_virtual_size(new).map_err(in_path)?;
    if new < old && (!shrink || format != Format::Raw) {
        return Err(in_path(Error::new(
            ErrorKind::Usage,
            match format {
                Format::Raw => format!(
                    "{new} bytes are less than {old}: what lies behind would be lost; hint: --shrink"
                ),
                _ => format!(
                    "{new} bytes are less than {old}: only raw images are made smaller; hint: v2v image convert -O raw first"
                ),
            },
        )));
    }
    if new != old {
        match format {
            Format::Raw => file
                .set_len(new)
                .map_err(|e| in_path(Error::io(format!("setting the length to {new}"), e)))?,
            _ => qcow2::grow(&file, &range, source.as_ref(), new).map_err(in_path)?,
        }
    }
    file.sync_all()
        .map_err(|e| in_path(Error::io("syncing", e)))?;
    Ok((old, new))
}

/// Locks the whole file until it is closed, so that neither QEMU nor another v2v uses it, or refuses if one does.
/// QEMU holds open-file-description locks on single bytes ("Disk image file locking" in its manual), with which a
/// record lock of the whole file conflicts. The lock ends when *any* descriptor of the file is closed in this
/// process: open it once.
pub fn lock_exclusively(file: &File) -> Result<()> {
    match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(Error::new(
            ErrorKind::Usage,
            "the image is in use by another program, such as a running machine; hint: stop it first",
        )),
        // A file system without locks, such as some FUSE ones.
        Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
            tracing::warn!("the file system has no locks; make sure that nothing uses the image");
            Ok(())
        }
        Err(e) => Err(Error::io("locking", e.into())),
    }
}
