//! `-o null`: the whole work is done and its result thrown away. The scratch folder lies in `$TMPDIR`, else in
//! /var/tmp, and several runs may share a name.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use image::{BlockSink, SinkStats};

use crate::name::CleanName;
use crate::scratch::{Scratch, Sharing};
use crate::{Finished, Placed, Plan, Result, Target, space};

/// Granules in which zeroes are left out, as those of a qcow2 image.
const GRANULARITY: u64 = 64 * 1024;

/// Where temporary files go when there is no folder of the result on this host.
pub(crate) fn temp_dir() -> PathBuf {
    env::var_os("TMPDIR")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

#[derive(Debug)]
pub(crate) struct NullTarget {
    scratch: Scratch,
    notes: Vec<String>,
    data_bytes: Arc<AtomicU64>,
}

impl NullTarget {
    pub(crate) fn prepare(name: CleanName) -> Result<Self> {
        let scratch = Scratch::create(&temp_dir(), &name.name, Sharing::Shared)?;
        Ok(Self {
            scratch,
            notes: name.note.into_iter().collect(),
            data_bytes: Arc::default(),
        })
    }
}

impl Target for NullTarget {
    fn check(&mut self, _plan: &Plan<'_>) -> Result<()> {
        Ok(())
    }

    fn scratch_dir(&self) -> &Path {
        self.scratch.path()
    }

    fn create_disk(&mut self, _index: u32, virtual_size: u64) -> Result<Box<dyn BlockSink>> {
        Ok(Box::new(NullSink {
            virtual_size,
            stored: AtomicU64::new(0),
            total: Arc::clone(&self.data_bytes),
        }))
    }

    fn finalise(&mut self, _finished: &Finished<'_>) -> Result<Placed> {
        self.scratch.remove()?;
        let bytes = self.data_bytes.load(Ordering::Relaxed);
        let mut notes = std::mem::take(&mut self.notes);
        notes.push(format!(
            "{} of guest data were converted and thrown away",
            space::human(bytes)
        ));
        Ok(Placed {
            files: Vec::new(),
            domain: None,
            notes,
        })
    }
}

/// Counts what a real sink would store.
#[derive(Debug)]
struct NullSink {
    virtual_size: u64,
    stored: AtomicU64,
    total: Arc<AtomicU64>,
}

impl BlockSink for NullSink {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn granularity(&self) -> u64 {
        GRANULARITY
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> image::Result<()> {
        if offset
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > self.virtual_size)
        {
            return Err(image::Error::new(
                image::ErrorKind::Usage,
                format!(
                    "expected a write within {:#x} bytes, found {} bytes",
                    self.virtual_size,
                    buf.len()
                ),
            )
            .at(offset));
        }
        let granule = usize::try_from(GRANULARITY).unwrap_or(usize::MAX);
        let stored: usize = buf
            .chunks(granule)
            .filter(|chunk| !is_zero(chunk))
            .map(<[u8]>::len)
            .sum();
        self.stored.fetch_add(stored as u64, Ordering::Relaxed);
        Ok(())
    }

    fn finish(self: Box<Self>) -> image::Result<SinkStats> {
        let data_bytes = self.stored.into_inner();
        self.total.fetch_add(data_bytes, Ordering::Relaxed);
        Ok(SinkStats {
            data_bytes,
            file_len: 0,
        })
    }
}

/// An OR over blocks vectorises; a search for the first non-zero byte does not.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(4096)
        .all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(virtual_size: u64) -> NullSink {
        NullSink {
            virtual_size,
            stored: AtomicU64::new(0),
            total: Arc::default(),
        }
    }

    #[test]
    fn only_granules_with_data_count() {
        let sink = sink(1 << 20);
        let mut buf = vec![0; 3 * 65536];
        buf[65536 + 70] = 1;
        sink.write_at(&buf, 0).unwrap();
        sink.write_at(&[1; 512], (1 << 20) - 512).unwrap();
        let stats = Box::new(sink).finish().unwrap();
        assert_eq!(
            stats,
            SinkStats {
                data_bytes: 65536 + 512,
                file_len: 0
            }
        );
    }

    #[test]
    fn a_write_past_the_end_is_refused() {
        let sink = sink(1024);
        assert_eq!(
            sink.write_at(&[0; 512], 1024).unwrap_err().kind(),
            image::ErrorKind::Usage
        );
        assert_eq!(
            sink.write_at(&[0; 512], u64::MAX).unwrap_err().kind(),
            image::ErrorKind::Usage
        );
    }
}
