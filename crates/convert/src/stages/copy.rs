//! Writes the disks.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use image::copy::CopyOptions;
use image::{BlockSink, BlockSource, Overlay, extents};
use target::{Plan, Target};
use types::{CancelToken, GuestCaps, Machine};

use crate::report::DiskBytes;
use crate::{Conversion, DiskProgress, Events, Result, Stage};

pub(crate) fn run(
    job: &Conversion,
    machine: &Machine,
    caps: &GuestCaps,
    overlays: &[Arc<Overlay>],
    target: &mut dyn Target,
    events: &dyn Events,
    cancel: &CancelToken,
) -> Result<Vec<DiskBytes>> {
    let mut disks = Vec::new();
    for overlay in overlays {
        disks.push(DiskBytes {
            virtual_size: overlay.virtual_size(),
            data_bytes: data_bytes(overlay.as_ref())?,
        });
    }
    let estimated_bytes = disks.iter().map(|disk| disk.data_bytes).collect();
    target.check(&Plan {
        machine,
        caps: Some(caps),
        estimated_bytes,
    })?;
    let mut sinks = Vec::new();
    for (index, overlay) in overlays.iter().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        sinks.push(Mutex::new(Some(
            target.create_disk(index, overlay.virtual_size())?,
        )));
    }
    for overlay in overlays {
        overlay.will_need(&data_ranges(overlay.as_ref())?);
    }
    events.stage(
        Stage::Copy,
        &format!(
            "copying {} disk{}",
            overlays.len(),
            if overlays.len() == 1 { "" } else { "s" }
        ),
    );
    copy_all(job.parallel, overlays, &sinks, events, cancel)?;
    Ok(disks)
}

/// Copies `parallel` disks at a time; the processors are shared out among them.
fn copy_all(
    parallel: usize,
    overlays: &[Arc<Overlay>],
    sinks: &[Mutex<Option<Box<dyn BlockSink>>>],
    events: &dyn Events,
    cancel: &CancelToken,
) -> Result<()> {
    let at_once = parallel.clamp(1, overlays.len().max(1));
    let threads = thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2)
        .div_ceil(at_once);
    let next = AtomicUsize::new(0);
    let stop = CancelToken::new();
    let first_error = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let disk = next.fetch_add(1, Ordering::Relaxed);
                    let Some(sink) = sinks.get(disk).and_then(|sink| lock(sink).take()) else {
                        return;
                    };
                    if stop.is_cancelled() {
                        return;
                    }
                    let progress = |done: image::copy::CopyProgress| {
                        events.disk(DiskProgress {
                            disk,
                            disks: overlays.len(),
                            copied_bytes: done.copied_bytes,
                            total_bytes: done.total_bytes,
                        });
                    };
                    if let Err(error) = copy_one(&overlays[disk], sink, threads, cancel, &progress)
                    {
                        stop.cancel();
                        lock(&first_error).get_or_insert(error);
                        return;
                    }
                }
            });
        }
    });
    match first_error.into_inner().unwrap_or_else(|e| e.into_inner()) {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}

fn copy_one(
    overlay: &Overlay,
    sink: Box<dyn BlockSink>,
    threads: usize,
    cancel: &CancelToken,
    progress: &(dyn Fn(image::copy::CopyProgress) + Sync),
) -> image::Result<()> {
    let options = CopyOptions {
        threads,
        ..CopyOptions::default()
    };
    image::copy::copy(overlay, sink.as_ref(), &options, cancel, progress)?;
    let done = sink.finish()?;
    tracing::info!(
        "{} bytes of data in a file of {} bytes",
        done.data_bytes,
        done.file_len
    );
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What must be read and stored of this disk, at most.
pub(crate) fn data_bytes(source: &dyn BlockSource) -> image::Result<u64> {
    let ranges = data_ranges(source)?;
    Ok(ranges.iter().map(|range| range.end - range.start).sum())
}

fn data_ranges(source: &dyn BlockSource) -> image::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    for extent in extents(source, 0..source.virtual_size()) {
        let extent = extent?;
        if !extent.kind.reads_zero() {
            ranges.push(extent.offset..extent.offset + extent.len);
        }
    }
    Ok(ranges)
}
