//! Disks that are not one image: blank ones, and a delta over the disk that `ovf:parentRef` names (DSP0243 1.1.0, 9.1.2:
//! what the delta does not hold is read from the parent).

use std::sync::Arc;

use image::formats::{self, Format, OpenOptions};
use image::{BlockSource, ByteStore, ExtentKind, FileRange, Files};

use crate::PreparedDisk;
use crate::error::{Error, ErrorKind, Result};
use crate::ovf::DiskFile;

/// Largest blank disk: that of VMDK and VHDX.
const MAX_CAPACITY: u64 = 64 << 40;

/// An empty disk of the stated capacity, as ovftool makes it of a disk without a file.
pub(super) fn blank(disk: &DiskFile) -> Result<PreparedDisk> {
    let capacity = disk.capacity.unwrap_or(0);
    if capacity == 0 || capacity > MAX_CAPACITY {
        let message = format!(
            "{}: expected a capacity of 1 to {MAX_CAPACITY} bytes, found {capacity}",
            disk.label
        );
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(PreparedDisk {
        range: FileRange::from_store(Arc::new(Zeroes(capacity)), disk.label.as_str()),
        // A descriptor's capacity need not be whole sectors; the disk has them.
        capacity: None,
        format: Some(Format::Raw),
        files: Files::none(),
    })
}

/// `child` over `parent`. Both are opened here: whether the child knows its parent itself is known only then.
pub(super) fn over(
    child: PreparedDisk,
    parent: PreparedDisk,
    format: Option<Format>,
) -> Result<PreparedDisk> {
    let label = child.range.label().to_owned();
    let open = |disk: PreparedDisk| {
        let how = OpenOptions {
            format: disk.format.or(format),
            files: Some(disk.files),
            snapshot: None,
        };
        formats::open_range(disk.range, &how)
    };
    let capacity = child.capacity;
    let child = open(child)?;
    if child.parent().is_some() {
        let contents = Contents {
            child,
            parent: None,
        };
        return Ok(stored(contents, label, capacity));
    }
    let parent = open(parent)?;
    if parent.virtual_size() > child.virtual_size() {
        let message = format!(
            "expected a delta at least as large as its parent of {} bytes (ovf:parentRef), found {} bytes",
            parent.virtual_size(),
            child.virtual_size()
        );
        return Err(Error::corrupt(message).in_file(label));
    }
    let contents = Contents {
        child,
        parent: Some(parent),
    };
    Ok(stored(contents, label, capacity))
}

fn stored(contents: Contents, label: String, capacity: Option<u64>) -> PreparedDisk {
    PreparedDisk {
        range: FileRange::from_store(Arc::new(contents), label),
        capacity,
        format: Some(Format::Raw),
        files: Files::none(),
    }
}

/// Nothing but zeroes.
#[derive(Debug)]
struct Zeroes(u64);

impl ByteStore for Zeroes {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_exact_at(&self, buf: &mut [u8], _offset: u64) -> image::Result<()> {
        buf.fill(0);
        Ok(())
    }

    fn run_at(&self, _offset: u64, max_len: u64) -> (bool, u64) {
        (false, max_len)
    }

    fn is_sparse(&self) -> bool {
        true
    }
}

/// What the guest sees of a disk over its parent, as bytes.
#[derive(Debug)]
struct Contents {
    child: Arc<dyn BlockSource>,
    parent: Option<Arc<dyn BlockSource>>,
}

impl Contents {
    /// The extent at `offset`: in the child or, where that was never written, in the parent; and its length.
    fn extent(&self, offset: u64, max_len: u64) -> image::Result<(Place, u64)> {
        let extent = self.child.extent_at(offset, max_len)?;
        let len = extent.len.min(max_len);
        let parent = self
            .parent
            .as_ref()
            .filter(|_| extent.kind == ExtentKind::Unallocated);
        let Some(parent) = parent else {
            let place = if extent.kind.reads_zero() {
                Place::Zero
            } else {
                Place::Child
            };
            return Ok((place, len));
        };
        // A child may be larger than its parent; the rest is zero.
        if offset >= parent.virtual_size() {
            return Ok((Place::Zero, len));
        }
        let extent = parent.extent_at(offset, len.min(parent.virtual_size() - offset))?;
        let place = if extent.kind.reads_zero() {
            Place::Zero
        } else {
            Place::Parent
        };
        Ok((place, extent.len.min(len)))
    }
}

enum Place {
    Child,
    Parent,
    Zero,
}

impl ByteStore for Contents {
    fn len(&self) -> u64 {
        self.child.virtual_size()
    }

    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> image::Result<()> {
        while !buf.is_empty() {
            let (place, len) = self.extent(offset, buf.len() as u64)?;
            let (part, rest) = buf.split_at_mut(usize::try_from(len).unwrap_or(0));
            match (place, &self.parent) {
                (Place::Child, _) => self.child.read_at(part, offset)?,
                (Place::Parent, Some(parent)) => parent.read_at(part, offset)?,
                _ => part.fill(0),
            }
            buf = rest;
            offset += len;
        }
        Ok(())
    }

    /// A table that cannot be read makes the run data, and the read that follows fails.
    fn run_at(&self, offset: u64, max_len: u64) -> (bool, u64) {
        match self.extent(offset, max_len) {
            Ok((Place::Zero, len)) => (false, len),
            Ok((_, len)) => (true, len),
            Err(_) => (true, max_len),
        }
    }

    fn is_sparse(&self) -> bool {
        true
    }
}
