//! How long libdeflate alone needs for the grains of a streamOptimized VMDK: the least that any copy of it can take.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const SECTOR: usize = 512;
/// `overHead` of the sparse extent header: sectors before the first grain (VDF 1.1, Hosted Sparse Extent Header).
const OVERHEAD_AT: usize = 64;
/// A grain marker: sector of the disk (8 bytes), length of the compressed data (4), the data (VDF 1.1, Grain Marker).
const MARKER_LEN: usize = 12;
/// A grain of 64 KiB.
const GRAIN_LEN: usize = 64 << 10;

/// Inflates every grain of `vmdk` from memory into a buffer a thread, on all cores; the best of `rounds`.
pub(super) fn inflate_all(vmdk: &Path, rounds: usize) -> Result<Duration> {
    let file = fs::read(vmdk).with_context(|| format!("reading {}", vmdk.display()))?;
    let grains = find(&file)?;
    let threads = std::thread::available_parallelism()?.get();
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let next = AtomicUsize::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| -> Result<()> {
            let workers: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| work(&grains, &next)))
                .collect();
            for worker in workers {
                worker.join().ok().context("a thread panicked")??;
            }
            Ok(())
        })?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

fn work(grains: &[&[u8]], next: &AtomicUsize) -> Result<()> {
    let mut inflater = libdeflater::Decompressor::new();
    let mut buf = vec![0; GRAIN_LEN];
    while let Some(grain) = grains.get(next.fetch_add(1, Ordering::Relaxed)) {
        inflater
            .zlib_decompress(grain, &mut buf)
            .context("inflating a grain")?;
    }
    Ok(())
}

/// The compressed data of every grain, found by walking the markers.
fn find(file: &[u8]) -> Result<Vec<&[u8]>> {
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = file.get(at..at + len)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |n, &byte| n << 8 | usize::from(byte)),
        )
    };
    let mut at = number(OVERHEAD_AT, 8).context("the VMDK is too short")? * SECTOR;
    let mut grains = Vec::new();
    while let Some(len) = number(at + 8, 4) {
        let sectors = number(at, 8).unwrap_or(0);
        let end = if len == 0 {
            // Another marker: its metadata follow in whole sectors; the end of the stream has none and a type of 0.
            if sectors == 0 && number(at + MARKER_LEN, 4) == Some(0) {
                break;
            }
            at + SECTOR * (1 + sectors)
        } else {
            let data = file
                .get(at + MARKER_LEN..at + MARKER_LEN + len)
                .context("a grain is cut off")?;
            grains.push(data);
            at + MARKER_LEN + len
        };
        at = end.next_multiple_of(SECTOR);
    }
    ensure!(!grains.is_empty(), "the VMDK has no grains");
    Ok(grains)
}
