//! Reads a whole image through `read_at` on some threads and says how fast that was:
//! `cargo run --release -p image --example vmdk_speed -- disk.vmdk [THREADS] [CHUNK_KIB]`.

#![expect(clippy::print_stdout, reason = "a program that prints a measurement")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use image::{BlockSource, ExtentKind, Result, extents};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "disk.vmdk".to_owned());
    let mut number = |default: u64| {
        args.next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(default)
    };
    let (threads, chunk_len) = (number(2), number(1024) << 10);

    let start = Instant::now();
    let source = image::formats::open(Path::new(&path), &image::formats::OpenOptions::default())?;
    let opened = start.elapsed();
    let data: u64 = extents(source.as_ref(), 0..source.virtual_size())
        .filter_map(Result::ok)
        .filter(|extent| extent.kind == ExtentKind::Data)
        .map(|extent| extent.len)
        .sum();
    let mapped = start.elapsed();
    println!(
        "{path}: opened in {opened:?}, {} MiB of data mapped in {:?}",
        data >> 20,
        mapped - opened
    );

    let next = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| read_chunks(source.as_ref(), &next, chunk_len)))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or(Ok(())))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = data as f64 / 1e6 / seconds;
    println!(
        "{threads} threads, chunks of {} KiB: {seconds:.2} s, {rate:.0} MB/s",
        chunk_len >> 10
    );
    Ok(())
}

/// Reads the chunks that no other thread took.
fn read_chunks(source: &dyn BlockSource, next: &AtomicU64, chunk_len: u64) -> Result<()> {
    let mut buf = vec![0; usize::try_from(chunk_len).unwrap_or(1 << 20)];
    loop {
        let offset = next.fetch_add(chunk_len, Ordering::Relaxed);
        if offset >= source.virtual_size() {
            return Ok(());
        }
        let len = chunk_len.min(source.virtual_size() - offset);
        if source.extent_at(offset, len)?
            == (image::Extent {
                offset,
                len,
                kind: ExtentKind::Unallocated,
            })
        {
            continue;
        }
        let len = usize::try_from(len).unwrap_or(buf.len());
        source.read_at(&mut buf[..len], offset)?;
    }
}
