//! Copies what a disk has that its backing file has not: `convert -B`, linked clones.
//!
//! ```text
//! source ─ Either: data where source or backing have any ─> copy ─> Differing: units that differ ─> sink
//! ```
//!
//! The sink has the backing file below it: what is not written there is read from the backing file, so zeroes of the
//! source over data of the backing file are written too.

use std::sync::Mutex;
use std::sync::PoisonError;

use types::CancelToken;

use crate::copy::{CopyOptions, CopyProgress, CopyStats, copy};
use crate::{BlockSink, BlockSource, Error, ErrorKind, Extent, ExtentKind, Result, SinkStats};

/// Copies the difference between `source` and `backing` to `sink`, whose image names `backing` as its backing file.
pub fn copy_delta(
    source: &dyn BlockSource,
    backing: &dyn BlockSource,
    sink: &dyn BlockSink,
    options: &CopyOptions,
    cancel: &CancelToken,
    progress: &(dyn Fn(CopyProgress) + Sync),
) -> Result<CopyStats> {
    let either = Either { source, backing };
    let differing = Differing {
        sink,
        backing,
        buffers: Mutex::new(Vec::new()),
    };
    copy(&either, &differing, options, cancel, progress)
}

/// The source, with data wherever the backing file has some.
#[derive(Debug)]
struct Either<'a> {
    source: &'a dyn BlockSource,
    backing: &'a dyn BlockSource,
}

impl BlockSource for Either<'_> {
    fn virtual_size(&self) -> u64 {
        self.source.virtual_size()
    }

    fn format(&self) -> &'static str {
        self.source.format()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.source.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let extent = self.source.extent_at(offset, max_len)?;
        let below = self.backing.virtual_size();
        if extent.kind == ExtentKind::Data || offset >= below {
            return Ok(extent);
        }
        let under = self
            .backing
            .extent_at(offset, extent.len.min(below - offset))?;
        Ok(Extent {
            offset,
            len: extent.len.min(under.len),
            kind: match under.kind {
                ExtentKind::Data => ExtentKind::Data,
                _ => ExtentKind::Unallocated,
            },
        })
    }

    fn read_granularity(&self) -> u64 {
        self.source.read_granularity()
    }
}

/// A sink that leaves out what the backing file has.
#[derive(Debug)]
struct Differing<'a> {
    sink: &'a dyn BlockSink,
    backing: &'a dyn BlockSource,
    /// Buffers of writers that are not at work.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Differing<'_> {
    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_differing(&self, buf: &[u8], offset: u64, below: &mut Vec<u8>) -> Result<()> {
        below.resize(buf.len(), 0);
        let inside = usize::try_from(self.backing.virtual_size().saturating_sub(offset))
            .map_or(buf.len(), |inside| inside.min(buf.len()));
        let (inside, past_end) = below.split_at_mut(inside);
        if !inside.is_empty() {
            self.backing.read_at(inside, offset)?;
        }
        past_end.fill(0);
        let unit = usize::try_from(self.sink.granularity().max(1)).unwrap_or(usize::MAX);
        let mut units = buf.chunks(unit).zip(below.chunks(unit)).enumerate();
        while let Some((first, _)) = units.find(|(_, (new, old))| new != old) {
            let mut end = first + 1;
            for (index, (new, old)) in units.by_ref() {
                if new == old {
                    break;
                }
                end = index + 1;
            }
            let range = first * unit..(end * unit).min(buf.len());
            let at = offset + range.start as u64;
            let part = buf
                .get(range)
                .ok_or_else(|| Error::new(ErrorKind::Usage, "a unit lies outside of the write"))?;
            self.sink.write_at(part, at)?;
        }
        Ok(())
    }
}

impl BlockSink for Differing<'_> {
    fn virtual_size(&self) -> u64 {
        self.sink.virtual_size()
    }

    fn granularity(&self) -> u64 {
        self.sink.granularity()
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let mut below = self.buffers().pop().unwrap_or_default();
        let result = self.write_differing(buf, offset, &mut below);
        self.buffers().push(below);
        result
    }

    fn is_ordered(&self) -> bool {
        self.sink.is_ordered()
    }

    fn passed(&self, offset: u64) -> Result<()> {
        self.sink.passed(offset)
    }

    /// The caller finishes the sink below.
    fn finish(self: Box<Self>) -> Result<SinkStats> {
        Ok(SinkStats::default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::FileRange;
    use crate::formats::raw;

    /// Remembers what was written.
    #[derive(Debug)]
    struct Record(u64, Mutex<Vec<(u64, usize, u8)>>);

    impl BlockSink for Record {
        fn virtual_size(&self) -> u64 {
            self.0
        }
        fn granularity(&self) -> u64 {
            1024
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
            self.1.lock().unwrap().push((offset, buf.len(), buf[0]));
            Ok(())
        }
        fn finish(self: Box<Self>) -> Result<SinkStats> {
            Ok(SinkStats::default())
        }
    }

    #[test]
    fn only_units_that_differ_are_written_zeroes_too() {
        let disk = |pieces: &[(u8, usize)]| {
            let bytes: Vec<u8> = pieces.iter().flat_map(|&(b, n)| vec![b; n]).collect();
            raw::Reader::open(FileRange::from_store(Arc::new(bytes), "disk")).unwrap()
        };
        let source = disk(&[(1, 1024), (0, 2048), (3, 2048), (0, 1024), (4, 512)]);
        let backing = disk(&[(1, 2048), (2, 1024), (3, 1024)]);
        let sink = Record(source.virtual_size(), Mutex::default());
        let options = CopyOptions::default();
        copy_delta(
            &source,
            &backing,
            &sink,
            &options,
            &CancelToken::new(),
            &|_| {},
        )
        .unwrap();
        let written = sink.1.into_inner().unwrap();
        assert_eq!(written, [(1024, 2048, 0), (4096, 1024, 3), (6144, 512, 4)]);
    }
}
