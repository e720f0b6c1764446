//! Writes `streamOptimized` (VDF 1.1, Stream-Optimized Compressed Sparse Extents), the subformat of OVA files and of
//! imports to vSphere.
//!
//! ```text
//! header | descriptor | grains of table 0 | marker table 0 | grains of table 1 | marker table 1 | …
//!        | marker directory | marker footer | end-of-stream marker
//! ```
//!
//! The header says that the directory is at the end (`GD_AT_END`), so a program that only reads forward, as ESXi
//! does at an import, can take the file; the footer is the same header with the directory's place. Grains lie in
//! the order of the disk, each table behind its own grains.
//!
//! Grains are deflated by the threads that call `write_at`, and wait in memory for their turn: the copy engine says
//! by `passed` up to where none is missing. So the bytes of the file follow from the disk and the options alone.

mod options;
mod stream;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use libdeflater::{CompressionLvl, Compressor};

use crate::formats::raw::{OutputFile, check_not_failed, check_virtual_size, check_write};
use crate::{BlockSink, Error, ErrorKind, Result, SinkStats, is_zero};

pub use options::{AdapterType, Options};
use stream::{GRAIN_LEN, Stream};

/// A `streamOptimized` VMDK being written. Dropped without [`finish`](BlockSink::finish) it leaves a file that is no
/// image; the caller removes it.
#[derive(Debug)]
pub struct Writer {
    file: OutputFile,
    virtual_size: u64,
    options: Options,
    level: CompressionLvl,
    state: Mutex<State>,
    data_bytes: AtomicU64,
    failed: AtomicBool,
}

/// What is in order, and what waits for it.
#[derive(Debug)]
struct State {
    stream: Stream,
    /// Deflated grains by number.
    waiting: BTreeMap<u64, Vec<u8>>,
    /// Grains below this number are in the file, or never will be.
    passed: u64,
}

/// What a thread keeps between grains.
struct Scratch {
    level: i32,
    compressor: Compressor,
    /// The last grain of a disk, filled up with zeroes.
    padded: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

impl Writer {
    /// Creates the file at `path`, which must not exist.
    pub fn create(path: &Path, virtual_size: u64, options: Options) -> Result<Self> {
        let in_path = |e: Error| e.in_path(path);
        check_virtual_size(virtual_size).map_err(in_path)?;
        let stream = Stream::new(virtual_size).map_err(in_path)?;
        let level = options.level().map_err(in_path)?;
        Ok(Self {
            file: OutputFile::create(path)?,
            virtual_size,
            options,
            level,
            state: Mutex::new(State {
                stream,
                waiting: BTreeMap::new(),
                passed: 0,
            }),
            data_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })
    }

    fn store(&self, buf: &[u8], offset: u64) -> Result<()> {
        let first = offset / GRAIN_LEN as u64;
        let mut grains = Vec::new();
        for (number, data) in (first..).zip(buf.chunks(GRAIN_LEN)) {
            if !is_zero(data) {
                grains.push((number, self.deflate(number, data)?));
                self.data_bytes
                    .fetch_add(data.len() as u64, Ordering::Relaxed);
            }
        }
        let mut state = self.state();
        if first < state.passed {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("write at {offset:#x}, which was said to be passed"),
            ));
        }
        state.waiting.extend(grains);
        Ok(())
    }

    /// The grain as it lies in the file, marker and padding included.
    fn deflate(&self, number: u64, data: &[u8]) -> Result<Vec<u8>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let level = self.options.compression_level;
            if scratch
                .as_ref()
                .is_none_or(|scratch| scratch.level != level)
            {
                *scratch = Some(Scratch {
                    level,
                    compressor: Compressor::new(self.level),
                    padded: Vec::new(),
                });
            }
            let Some(scratch) = scratch else {
                return Err(Error::new(ErrorKind::Usage, "no compressor"));
            };
            let data = if data.len() < GRAIN_LEN {
                scratch.padded.clear();
                scratch.padded.extend_from_slice(data);
                scratch.padded.resize(GRAIN_LEN, 0);
                &scratch.padded
            } else {
                data
            };
            stream::deflate(&mut scratch.compressor, number, data)
        })
    }

    /// Writes the grains below `end` that wait.
    fn drain(&self, state: &mut State, end: u64) -> Result<()> {
        while let Some(entry) = state.waiting.first_entry() {
            if *entry.key() >= end {
                break;
            }
            let (number, bytes) = entry.remove_entry();
            state.stream.grain(&self.file, number, &bytes)?;
        }
        state.passed = state.passed.max(end);
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere leaves a stream that `failed` keeps from being finished.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockSink for Writer {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn granularity(&self) -> u64 {
        GRAIN_LEN as u64
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_write(offset, buf.len(), GRAIN_LEN as u64, self.virtual_size)
            .and_then(|()| self.store(buf, offset))
            .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
            .map_err(|e| e.in_file(self.file.label()))
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn passed(&self, offset: u64) -> Result<()> {
        let grain = offset / GRAIN_LEN as u64;
        self.drain(&mut self.state(), grain)
            .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
            .map_err(|e| e.in_file(self.file.label()))
    }

    fn finish(self: Box<Self>) -> Result<SinkStats> {
        check_not_failed(&self.failed, &self.file)?;
        let file_len = {
            let mut state = self.state();
            self.drain(&mut state, u64::MAX)?;
            state.stream.finish(&self.file)?
        };
        self.file.sync()?;
        // The header comes last: until now the file begins with a hole, which no program takes for an image.
        self.state().stream.begin(&self.file, &self.options)?;
        self.file.sync()?;
        Ok(SinkStats {
            data_bytes: self.data_bytes.load(Ordering::Relaxed),
            file_len,
        })
    }
}
