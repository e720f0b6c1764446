//! Where a copied disk is written.

use std::fmt;

use crate::Result;

/// An image being written. Writes come from several threads, in any order; no byte is written twice.
pub trait BlockSink: Send + Sync + fmt::Debug {
    /// Capacity of the image in bytes.
    fn virtual_size(&self) -> u64;

    /// Writes start and end on multiples of this many bytes, but for the end of the disk. A power of two.
    fn granularity(&self) -> u64;

    /// Writes `buf` at byte `offset` of the disk. `buf` may be of any length that keeps to the granularity; units
    /// of one granule that are all zero are left out by the sink. What is never written reads as zero.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()>;

    /// True when the sink can store only in the order of the disk, and so wants to hear [`passed`](Self::passed).
    fn is_ordered(&self) -> bool {
        false
    }

    /// Everything before byte `offset` of the disk has been written, or never will be. The offset never goes back.
    fn passed(&self, offset: u64) -> Result<()> {
        let _ = offset;
        Ok(())
    }

    /// Writes the metadata, makes everything durable (fsync) and says what was written.
    fn finish(self: Box<Self>) -> Result<SinkStats>;
}

/// What a finished sink holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkStats {
    /// Bytes of guest data that were stored.
    pub data_bytes: u64,
    /// Length of the file in bytes.
    pub file_len: u64,
}

/// How much of the file is allocated before the copy (`-oa`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preallocation {
    /// `-oa sparse`: nothing.
    #[default]
    Sparse,
    /// `-oa preallocated`: all of it, as `qemu-img create -o preallocation=falloc` does.
    Falloc,
}
