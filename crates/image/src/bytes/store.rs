//! What a place of bytes must do.

use std::fmt;

use crate::Result;

/// Which file of the host bytes belong to, to notice an image that is its own parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// Bytes of fixed length with random access, shared between threads.
pub trait ByteStore: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// True when there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`. The caller keeps the range within [`len`](Self::len); errors carry no file name
    /// and no offset, which the caller adds.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// The run that starts at `offset`: true for bytes that must be read to be known, false for bytes that are known
    /// to be zero, and its length, from 1 to `max_len`. `offset < len` and `max_len > 0` are the caller's promise.
    fn run_at(&self, offset: u64, max_len: u64) -> (bool, u64) {
        let _ = offset;
        (true, max_len)
    }

    /// True when [`run_at`](Self::run_at) is worth asking: some of the bytes are known to be zero.
    fn is_sparse(&self) -> bool {
        false
    }

    /// The host's file behind the bytes, if it is one.
    fn id(&self) -> Option<FileId> {
        None
    }
}
