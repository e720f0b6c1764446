//! The copy engine: all that a source knows to be data goes to a sink, in parallel.
//!
//! The disk is cut into *cells* of one chunk each, on a grid that both the sink's granules and the source's blocks
//! divide. Workers take the cells that hold data, in order, from a shared cursor; zero and unallocated extents are
//! stepped over without being read. Within a cell, data extents widened to granules become *pieces*; each is read
//! into the worker's buffer at once (a source fills known zeroes between them without reading) and written at once.
//! So memory is one chunk a worker, and the sink sees large writes that go almost in order. A sink that stores only
//! in order is told how far all is written, and workers do not run far ahead of that.

mod cells;
mod order;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cells::{Cell, Cells};
use order::Order;
use types::CancelToken;

use crate::{BlockSink, BlockSource, Error, ErrorKind, ExtentKind, Result};

/// Largest chunk that is accepted: a worker's buffer.
const MAX_CHUNK: u64 = 64 << 20;

/// How to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// Worker threads; 0 is one a processor, at least two.
    pub threads: usize,
    /// Bytes that are read and written at once; rounded up to a power of two and to the sink's granularity.
    pub chunk_len: u64,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            chunk_len: 1 << 20,
        }
    }
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyProgress {
    /// Bytes of data that were copied.
    pub copied_bytes: u64,
    /// Bytes of data that the source has.
    pub total_bytes: u64,
}

/// What a copy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyStats {
    /// Bytes of data that were copied.
    pub data_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Copies the data of `source` to `sink`, which must not be smaller. Stops at the first error and at a
/// cancellation; the sink is left unfinished then. `progress` is called at the start, from any worker but never
/// twice at a time, and at the end; its figures never go back.
pub fn copy(
    source: &dyn BlockSource,
    sink: &dyn BlockSink,
    options: &CopyOptions,
    cancel: &CancelToken,
    progress: &(dyn Fn(CopyProgress) + Sync),
) -> Result<CopyStats> {
    let started = Instant::now();
    if sink.virtual_size() < source.virtual_size() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "expected a target of {} bytes, found {}",
                source.virtual_size(),
                sink.virtual_size()
            ),
        ));
    }
    let granule = sink.granularity().max(1);
    let chunk = chunk_len(options, granule)?;
    let total = total_data(source, cancel)?;
    progress(CopyProgress {
        copied_bytes: 0,
        total_bytes: total,
    });
    let threads = threads(options);
    let engine = Engine {
        source,
        sink,
        cancel,
        cells: Mutex::new(Cells::new(source.virtual_size(), chunk)),
        granule,
        // Data apart by less than a block of the source are read together: the block is inflated once.
        join: source.read_granularity().clamp(granule, chunk as u64),
        tally: Tally {
            total,
            copied: AtomicU64::new(0),
            reporting: Mutex::new(()),
            progress,
        },
        stop: AtomicBool::new(false),
        first_error: Mutex::new(None),
        order: sink.is_ordered().then(|| Order::new(sink, threads)),
    };
    engine.run(threads, chunk)?;
    let copied = engine.tally.copied.load(Ordering::Acquire);
    // The source is not expected to change, but should it, the bar still ends full.
    progress(CopyProgress {
        copied_bytes: copied,
        total_bytes: total.max(copied),
    });
    Ok(CopyStats {
        data_bytes: copied,
        elapsed: started.elapsed(),
    })
}

fn threads(options: &CopyOptions) -> usize {
    match options.threads {
        0 => thread::available_parallelism()
            .map_or(2, usize::from)
            .max(2),
        n => n,
    }
}

fn chunk_len(options: &CopyOptions, granule: u64) -> Result<usize> {
    let wanted = options
        .chunk_len
        .clamp(1, MAX_CHUNK)
        .next_power_of_two()
        .max(granule);
    let usable = granule.is_power_of_two() && wanted <= MAX_CHUNK;
    usize::try_from(wanted).ok().filter(|_| usable).ok_or_else(|| {
        Error::new(
            ErrorKind::Usage,
            format!("expected a sink granularity of a power of two up to {MAX_CHUNK}, found {granule}"),
        )
    })
}

/// Bytes of data in the source, from its tables.
fn total_data(source: &dyn BlockSource, cancel: &CancelToken) -> Result<u64> {
    let (mut next, mut total, end) = (0, 0, source.virtual_size());
    while next < end {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let extent = cells::extent(source, next, end)?;
        if extent.kind == ExtentKind::Data {
            total += extent.len;
        }
        next += extent.len;
    }
    Ok(total)
}

/// Counts and reports.
struct Tally<'a> {
    total: u64,
    copied: AtomicU64,
    reporting: Mutex<()>,
    progress: &'a (dyn Fn(CopyProgress) + Sync),
}

impl Tally<'_> {
    /// Adds, and reports unless somebody else is at it.
    fn add(&self, data_bytes: u64) {
        self.copied.fetch_add(data_bytes, Ordering::AcqRel);
        if let Ok(_alone) = self.reporting.try_lock() {
            let copied = self.copied.load(Ordering::Acquire);
            (self.progress)(CopyProgress {
                copied_bytes: copied,
                total_bytes: self.total.max(copied),
            });
        }
    }
}

/// One copy at work.
struct Engine<'a> {
    source: &'a dyn BlockSource,
    sink: &'a dyn BlockSink,
    cancel: &'a CancelToken,
    cells: Mutex<Cells>,
    granule: u64,
    join: u64,
    tally: Tally<'a>,
    stop: AtomicBool,
    first_error: Mutex<Option<Error>>,
    /// Where the sink is ordered.
    order: Option<Order<'a>>,
}

impl Engine<'_> {
    fn run(&self, threads: usize, chunk: usize) -> Result<()> {
        thread::scope(|scope| {
            for _ in 1..threads {
                let spawned = thread::Builder::new()
                    .name("copy".into())
                    .spawn_scoped(scope, || self.work(chunk));
                if let Err(error) = spawned {
                    tracing::warn!(%error, "copying with fewer threads");
                    break;
                }
            }
            self.work(chunk);
        });
        let error = self
            .first_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match (error, &self.order) {
            (Some(error), _) => Err(error),
            (None, Some(_)) => self.sink.passed(self.sink.virtual_size()),
            (None, None) => Ok(()),
        }
    }

    /// Copies cells until there are none, or somebody failed.
    fn work(&self, chunk: usize) {
        let _guard = StopOnPanic(self);
        let mut buf = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            let step = self.next_cell().and_then(|cell| match cell {
                Some((cell, number)) => {
                    buf.resize(chunk, 0);
                    self.copy_in_order(&cell, number, &mut buf)
                }
                None => Ok(false),
            });
            match step {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.stop();
                    let mut first = self
                        .first_error
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                    return;
                }
            }
        }
    }

    /// Makes everybody stop.
    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(order) = &self.order {
            order.wake();
        }
    }

    /// The next cell, and its number where the order matters.
    fn next_cell(&self) -> Result<Option<(Cell, u64)>> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = cells.next(self.source, self.cancel)?;
        Ok(cell.map(|cell| {
            let number = self.order.as_ref().map_or(0, |order| {
                let range = cell.range();
                order.take(range.start - range.start % self.granule, range.end)
            });
            (cell, number)
        }))
    }

    /// Copies a cell when its turn has come near; false when the copy was stopped meanwhile.
    fn copy_in_order(&self, cell: &Cell, number: u64, buf: &mut [u8]) -> Result<bool> {
        let Some(order) = &self.order else {
            return self.copy_cell(cell, buf).map(|()| true);
        };
        order.wait(number, &self.stop);
        if self.stop.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.copy_cell(cell, buf)?;
        order.done(number).map(|()| true)
    }

    fn copy_cell(&self, cell: &Cell, buf: &mut [u8]) -> Result<()> {
        for piece in cell.pieces(self.source, self.granule, self.join) {
            let piece = piece?;
            let end = piece.range.end.min(self.sink.virtual_size());
            let in_source = piece.range.end.min(self.source.virtual_size());
            let length = |end: u64| usize::try_from(end - piece.range.start).unwrap_or(usize::MAX);
            let (data, padding) = buf
                .get_mut(..length(end))
                .and_then(|buf| buf.split_at_mut_checked(length(in_source)))
                .ok_or_else(|| {
                    Error::new(ErrorKind::Usage, "piece is larger than a chunk")
                        .at(piece.range.start)
                })?;
            self.source.read_at(data, piece.range.start)?;
            padding.fill(0);
            self.sink.write_at(&buf[..length(end)], piece.range.start)?;
            self.tally.add(piece.data_bytes);
        }
        Ok(())
    }
}

/// Stops the others when a worker panics, who would wait for its cell for ever.
struct StopOnPanic<'a, 'b>(&'a Engine<'b>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}
