//! What the images of one chain share while they are opened: where their files may be, and which were seen.

use std::sync::Arc;

use super::{Format, open};
use crate::{
    BlockSource, Error, ErrorKind, Extent, ExtentKind, FileId, FileRange, Files, Reference, Result,
};

/// Most images in a chain. VMware and Hyper-V allow 32 and about 50; QEMU has no limit.
const MAX_CHAIN: usize = 256;

/// The chain from the image that the user named to the one being opened.
#[derive(Debug)]
pub(in crate::formats) struct Context {
    files: Files,
    /// The internal snapshot that is wanted of the first image.
    snapshot: Option<String>,
    depth: usize,
    seen: Vec<(FileId, u64)>,
}

impl Context {
    /// A chain that begins with the image of these options.
    pub(in crate::formats) fn new(files: Files, snapshot: Option<String>) -> Self {
        Self {
            files,
            snapshot,
            depth: 0,
            seen: Vec::new(),
        }
    }

    /// Notes an image of the chain, and says which it is: 0 is the one the user named. One that is there already is
    /// its own ancestor. Every reader calls this first.
    pub(in crate::formats) fn enter(&mut self, range: &FileRange) -> Result<usize> {
        if let Some(id) = range.id() {
            if self.seen.contains(&id) {
                return Err(Error::corrupt("the chain of parents is a loop").in_file(range.label()));
            }
            self.seen.push(id);
        }
        if self.depth == MAX_CHAIN {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected a chain of at most {MAX_CHAIN} images"),
            )
            .in_file(range.label()));
        }
        self.depth += 1;
        Ok(self.depth - 1)
    }

    /// The snapshot that is wanted, to be asked by the first image of the chain only; formats without internal
    /// snapshots refuse it by [`Context::refuse_snapshot`].
    pub(in crate::formats) fn take_snapshot(&mut self) -> Option<String> {
        self.snapshot.take()
    }

    /// For formats that have no internal snapshots.
    pub(in crate::formats) fn refuse_snapshot(&self, format: &str) -> Result<()> {
        match &self.snapshot {
            None => Ok(()),
            Some(name) => Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "expected an image with the snapshot {name:?}; the format {format} has none"
                ),
            )),
        }
    }

    /// Finds a file that the image `child` names.
    pub(in crate::formats) fn find(
        &self,
        child: &FileRange,
        reference: Reference<'_>,
    ) -> Result<FileRange> {
        self.files.find(child.label(), reference)
    }

    /// Opens an image that was found as the next of the chain.
    pub(in crate::formats) fn open_next(
        &mut self,
        range: FileRange,
        format: Option<Format>,
    ) -> Result<Arc<dyn BlockSource>> {
        open::open_in(range, format, self)
    }
}

/// A parent as its child sees it: endless, zero past its end (qcow2 "Cluster mapping"; a differencing disk may have
/// been enlarged).
#[derive(Clone, Debug)]
pub(in crate::formats) struct Parent(Arc<dyn BlockSource>);

impl Parent {
    /// Wraps an open parent.
    pub(in crate::formats) fn new(source: Arc<dyn BlockSource>) -> Self {
        Self(source)
    }

    /// The image itself.
    pub(in crate::formats) fn source(&self) -> &Arc<dyn BlockSource> {
        &self.0
    }

    /// Fills `buf` from `offset`.
    pub(in crate::formats) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let inside = self.0.virtual_size().saturating_sub(offset);
        let inside = usize::try_from(inside).map_or(buf.len(), |len| len.min(buf.len()));
        let (inside, past_end) = buf.split_at_mut(inside);
        past_end.fill(0);
        if inside.is_empty() {
            Ok(())
        } else {
            self.0.read_at(inside, offset)
        }
    }

    /// The extent at `offset`, at most `max_len` bytes.
    pub(in crate::formats) fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        if offset < self.0.virtual_size() {
            let extent = self.0.extent_at(offset, max_len)?;
            return Ok(Extent {
                len: extent.len.min(max_len),
                ..extent
            });
        }
        Ok(Extent {
            offset,
            len: max_len,
            kind: ExtentKind::Unallocated,
        })
    }
}
