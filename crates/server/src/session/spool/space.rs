//! Keeps some space free in the spool's file system.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image::{Error, ErrorKind, Result};

/// Bytes written between two looks at the file system.
const LOOK_EVERY: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct Space {
    dir: PathBuf,
    reserve_bytes: u64,
    /// Bytes that may be written before the next look.
    left: AtomicU64,
}

impl Space {
    pub(super) fn new(dir: &Path, reserve_bytes: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            reserve_bytes,
            left: AtomicU64::new(0),
        }
    }

    /// Takes `bytes` of what may be written.
    pub(super) fn take(&self, bytes: u64) -> Result<()> {
        let take = |left: u64| left.checked_sub(bytes);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if taken.is_ok() {
            return Ok(());
        }
        let found = rustix::fs::statvfs(&self.dir).map_err(|error| {
            Error::io("looking for free space", error.into()).in_path(&self.dir)
        })?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let after = free.saturating_sub(bytes);
        if after < self.reserve_bytes || free < bytes {
            return Err(Error::new(
                ErrorKind::NoSpace,
                format!(
                    "{} MiB are free, and {} MiB must stay free; make room there and try the job again",
                    free >> 20,
                    self.reserve_bytes >> 20
                ),
            )
            .in_path(&self.dir));
        }
        let left = (after - self.reserve_bytes).min(LOOK_EVERY);
        self.left.store(left, Ordering::Relaxed);
        Ok(())
    }
}
