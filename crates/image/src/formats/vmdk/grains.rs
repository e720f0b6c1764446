//! Fetches and inflates compressed grains.
//!
//! Each thread has its own decompressor and buffers, used again for every grain. Grains that lie close to each other
//! in the file are fetched by one read and inflated straight to where they are wanted. Grains of which only a part is
//! wanted, as a guest reading 4 KiB at a time does, pass through a small cache.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use libdeflater::{DecompressionError, Decompressor};

use super::cache::Generations;
use super::geometry::{Geometry, Piece};
use super::marker::{GRAIN_MARKER_LEN, GrainMarker};
use crate::{Error, ErrorKind, FileRange, Result};

/// Bytes that one read fetches, roughly.
const FETCH_LEN: u64 = 1 << 20;
/// Grains that the cache holds, and the memory that it may take.
const CACHED_GRAINS: usize = 64;
const CACHE_LEN: usize = 8 << 20;

/// Longest compressed form of `len` bytes that is accepted. Deflate's own worst case is stored blocks, 5 bytes in
/// 64 KiB; a poor encoder with fixed codes needs 9 bits a byte.
pub(super) fn max_deflated_len(len: usize) -> usize {
    len + len / 8 + 1024
}

/// The grain inflater of one extent.
#[derive(Debug)]
pub(super) struct Grains {
    range: FileRange,
    geometry: Geometry,
    cache: Mutex<Generations<Arc<Vec<u8>>>>,
}

/// A grain that is wholly wanted.
struct Wanted {
    grain: u64,
    /// Where its marker is in the file.
    at: u64,
    /// Where in the caller's buffer it goes.
    dest: Range<usize>,
}

/// What a thread keeps between reads.
struct Scratch {
    inflater: Decompressor,
    fetched: Vec<u8>,
    /// For the one grain that `fetched` turns out not to hold.
    single: Vec<u8>,
    /// For the last grain of a disk, which is stored full and wanted in part.
    tail: Vec<u8>,
    group: Vec<Wanted>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        inflater: Decompressor::new(),
        fetched: Vec::new(),
        single: Vec::new(),
        tail: Vec::new(),
        group: Vec::new(),
    });
}

/// The parts of [`Scratch`] that inflating needs while fetched bytes are borrowed.
struct Inflate<'a> {
    inflater: &'a mut Decompressor,
    single: &'a mut Vec<u8>,
    tail: &'a mut Vec<u8>,
}

impl Grains {
    pub(super) fn new(range: FileRange, geometry: Geometry) -> Self {
        let half = (CACHE_LEN / geometry.grain_size()).min(CACHED_GRAINS) / 2;
        Self {
            range,
            geometry,
            cache: Mutex::new(Generations::new(half)),
        }
    }

    /// Fills `buf` with `pieces`: each a part of a grain, where its marker is in the file, and where in `buf` it goes.
    pub(super) fn read(
        &self,
        buf: &mut [u8],
        pieces: impl Iterator<Item = (Piece, u64, Range<usize>)>,
    ) -> Result<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.group.clear();
            for (piece, at, dest) in pieces {
                if !piece.whole {
                    self.read_part(scratch, piece, at, &mut buf[dest])?;
                    continue;
                }
                if !follows(&scratch.group, at) {
                    self.flush(scratch, buf)?;
                }
                scratch.group.push(Wanted {
                    grain: piece.grain,
                    at,
                    dest,
                });
            }
            self.flush(scratch, buf)
        })
    }

    /// Fetches and inflates the group.
    fn flush(&self, scratch: &mut Scratch, buf: &mut [u8]) -> Result<()> {
        let Scratch {
            inflater,
            fetched,
            single,
            tail,
            group,
        } = scratch;
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let start = first.at;
        let fetched = self.fetch(fetched, start, self.likely_end(last.at))?;
        let mut inflate = Inflate {
            inflater,
            single,
            tail,
        };
        for wanted in group.iter() {
            let skip = usize::try_from(wanted.at - start).unwrap_or(usize::MAX);
            let bytes = fetched.get(skip..).unwrap_or_default();
            self.inflate(
                &mut inflate,
                bytes,
                wanted.grain,
                wanted.at,
                &mut buf[wanted.dest.clone()],
            )?;
        }
        group.clear();
        Ok(())
    }

    /// Copies a part of a grain out of the cache, inflating the grain into it before if it is not there.
    fn read_part(
        &self,
        scratch: &mut Scratch,
        piece: Piece,
        at: u64,
        dest: &mut [u8],
    ) -> Result<()> {
        let cached = self
            .cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(piece.grain);
        let data = match cached {
            Some(data) => data,
            None => {
                let Scratch {
                    inflater,
                    fetched,
                    single,
                    tail,
                    ..
                } = scratch;
                let fetched = self.fetch(fetched, at, self.likely_end(at))?;
                let mut data = vec![0; self.geometry.grain_len(piece.grain)];
                let mut inflate = Inflate {
                    inflater,
                    single,
                    tail,
                };
                self.inflate(&mut inflate, fetched, piece.grain, at, &mut data)?;
                let data = Arc::new(data);
                self.cache
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(piece.grain, Arc::clone(&data));
                data
            }
        };
        dest.copy_from_slice(&data[piece.skip..piece.skip + piece.len]);
        Ok(())
    }

    /// Where a grain at `at` ends at the latest, unless it is stored worse than zlib does, or the file ends.
    fn likely_end(&self, at: u64) -> u64 {
        let grain = self.geometry.grain_size() as u64;
        (at + GRAIN_MARKER_LEN as u64 + grain + grain / 1024 + 64).min(self.range.len())
    }

    fn fetch<'a>(&self, into: &'a mut Vec<u8>, start: u64, end: u64) -> Result<&'a [u8]> {
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        if into.len() < len {
            into.resize(len, 0);
        }
        let bytes = &mut into[..len];
        self.range.read_exact_at(bytes, start)?;
        Ok(bytes)
    }

    /// Inflates the grain whose marker begins `bytes`, which were read from `at`, into `dest`: what of it lies on the
    /// disk.
    fn inflate(
        &self,
        with: &mut Inflate<'_>,
        bytes: &[u8],
        grain: u64,
        at: u64,
        dest: &mut [u8],
    ) -> Result<()> {
        let fail = |e: Error| e.at(at).in_file(self.range.label());
        let (marker, data) = GrainMarker::split(bytes).ok_or_else(|| {
            fail(Error::new(
                ErrorKind::Truncated,
                format!("expected grain {grain}, but the file ends before its data"),
            ))
        })?;
        let len = self.check_marker(marker, grain).map_err(fail)?;
        let data = match data.get(..len) {
            Some(data) => data,
            None => {
                let start = at + GRAIN_MARKER_LEN as u64;
                let end = start + len as u64;
                if end > self.range.len() {
                    return Err(fail(Error::new(
                        ErrorKind::Truncated,
                        format!(
                            "expected {len} bytes of grain {grain}, but the file ends at {:#x}; the file is \
                             incomplete: copy, download or export it again",
                            self.range.len()
                        ),
                    )));
                }
                self.fetch(with.single, start, end)?
            }
        };
        let full = self.geometry.grain_size();
        let result = if dest.len() == full {
            with.inflater.zlib_decompress(data, dest)
        } else {
            // The last grain: writers store it full, or cut to the disk.
            with.tail.resize(full, 0);
            let result = with.inflater.zlib_decompress(data, with.tail);
            dest.copy_from_slice(&with.tail[..dest.len()]);
            result
        };
        let message = match result {
            Ok(found) if found == full || found == dest.len() => return Ok(()),
            Ok(found) => {
                format!("expected grain {grain} to inflate to {full} bytes, found {found}")
            }
            Err(DecompressionError::InsufficientSpace) => {
                format!("expected grain {grain} to inflate to {full} bytes, found more")
            }
            Err(DecompressionError::BadData) => {
                format!("expected {len} bytes of deflate data of grain {grain}, found damage")
            }
        };
        Err(fail(Error::corrupt(message)))
    }

    /// The length of the compressed data, when the marker is that of `grain`.
    fn check_marker(&self, marker: GrainMarker, grain: u64) -> Result<usize> {
        let lba = grain * self.geometry.grain_sectors();
        let limit = max_deflated_len(self.geometry.grain_size());
        if marker.lba != lba || marker.len == 0 {
            return Err(Error::corrupt(format!(
                "expected the marker of grain {grain}, sector {lba}, found sector {} with {} bytes",
                marker.lba, marker.len
            )));
        }
        let len = usize::try_from(marker.len).unwrap_or(usize::MAX);
        if len > limit {
            return Err(Error::corrupt(format!(
                "expected at most {limit} compressed bytes of grain {grain}, found {len}"
            )));
        }
        Ok(len)
    }
}

/// True when a grain at `at` can be fetched together with the group.
fn follows(group: &[Wanted], at: u64) -> bool {
    match (group.first(), group.last()) {
        (Some(first), Some(last)) => at > last.at && at - first.at < FETCH_LEN,
        _ => true,
    }
}
