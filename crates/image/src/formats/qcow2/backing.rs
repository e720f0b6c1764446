//! Finds and opens the backing file.

use std::sync::Arc;

use crate::formats::context::Context;
use crate::formats::{Format, raw};
use crate::{BlockSource, Error, FileRange, Reference, Result};

use super::header::{BackingName, MAGIC};
use super::reader::{Reader, Shared};

/// Opens the backing file of `child`.
pub(super) fn open(
    child: &FileRange,
    backing: &BackingName,
    context: &mut Context,
    shared: &Shared,
) -> Result<Arc<dyn BlockSource>> {
    let range = context.find(child, Reference::Host(&backing.name))?;
    let format = match backing.format.as_deref() {
        Some(format) => format,
        None => {
            tracing::warn!(
                "{}: the format of its backing file {} is not given; going by its content",
                child.label(),
                range.label()
            );
            if has_magic(&range)? { "qcow2" } else { "" }
        }
    };
    match format {
        "qcow2" => Ok(Arc::new(Reader::open_layer(range, context, shared)?)),
        // `file` and `host_device` are what QEMU calls the layer below raw.
        "raw" | "file" | "host_device" => {
            context.enter(&range)?;
            Ok(Arc::new(raw::Reader::open(range)?))
        }
        "" => context.open_next(range, None),
        other => {
            let format = other.parse::<Format>().map_err(|_| {
                Error::unsupported(format!(
                    "backing file {:?} of format {other} is not supported",
                    range.label()
                ))
                .in_file(child.label())
            })?;
            context.open_next(range, Some(format))
        }
    }
}

fn has_magic(range: &FileRange) -> Result<bool> {
    Ok(range.len() >= MAGIC.len() as u64 && range.read_vec(0, MAGIC.len())? == MAGIC)
}
