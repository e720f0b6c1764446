//! Measures the qcow2 writer against `qemu-img convert -W -m 16`: a disk of 2 GiB with 800 MiB of data in it, raw to
//! qcow2, by two threads, each with a file of its own to read. Both on the file system of `$TMPDIR`; put it on tmpfs,
//! where the disk does not blur the figure.
//!
//!     TMPDIR=/dev/shm cargo run --release -p image --example qcow2_write_speed

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a measurement prints, and stops at the first failure"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use image::formats::{OutputFormat, create, qcow2, raw};
use image::{BlockSource, FileRange, Preallocation};

const SIZE: u64 = 2 << 30;
const DATA: u64 = 800 << 20;
const CHUNK: u64 = 1 << 20;
const THREADS: usize = 2;
const ROUNDS: usize = 5;

/// Data in stretches of 4 MiB, spread evenly; half of each is noise, half is text.
fn make_disk(path: &Path) {
    let file = File::create_new(path).unwrap();
    file.set_len(SIZE).unwrap();
    let stretch = 4 << 20;
    let count = DATA / stretch;
    let mut state = 1u64;
    for number in 0..count {
        let bytes: Vec<u8> = (0..stretch)
            .map(|at| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                if at < stretch / 2 {
                    (state >> 56) as u8 | 1
                } else {
                    b'a' + (at % 23) as u8
                }
            })
            .collect();
        file.write_all_at(&bytes, SIZE / count * number / CHUNK * CHUNK)
            .unwrap();
    }
}

/// Copies every chunk; with `dense`, holes are read and scanned as well.
fn copy(source: &dyn BlockSource, target: &Path, dense: bool) -> f64 {
    let start = Instant::now();
    let sink = create(
        target,
        OutputFormat::Qcow2,
        source.virtual_size(),
        Preallocation::Sparse,
    )
    .unwrap();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut buf = vec![0; CHUNK as usize];
                loop {
                    let offset = next.fetch_add(CHUNK, Ordering::Relaxed);
                    if offset >= SIZE {
                        return;
                    }
                    let extent = source.extent_at(offset, CHUNK).unwrap();
                    if dense || extent.len < CHUNK || !extent.kind.reads_zero() {
                        source.read_at(&mut buf, offset).unwrap();
                        sink.write_at(&buf, offset).unwrap();
                    }
                }
            });
        }
    });
    sink.finish().unwrap();
    start.elapsed().as_secs_f64()
}

/// Processor seconds used so far by this process, and by those that it has waited for: proc_pid_stat(5), fields 14
/// to 17, in ticks of 1/100 s. Where others use the machine too, these say more than the clock.
fn cpu() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse::<f64>().unwrap() / 100.0)
        .collect();
    (fields[0] + fields[1], fields[2] + fields[3])
}

fn qemu_img(args: &[&str]) -> f64 {
    let start = Instant::now();
    let status = Command::new("qemu-img")
        .args(args)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{args:?}");
    start.elapsed().as_secs_f64()
}

fn read_all(source: &dyn BlockSource) -> f64 {
    let start = Instant::now();
    let mut buf = vec![0; CHUNK as usize];
    for offset in (0..SIZE).step_by(CHUNK as usize) {
        source.read_at(&mut buf, offset).unwrap();
    }
    start.elapsed().as_secs_f64()
}

fn main() {
    let directory = std::env::temp_dir().join(format!("qcow2_write_speed.{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let at = |name: &str| directory.join(name);
    let text = |name: &str| at(name).display().to_string();
    make_disk(&at("disk.raw"));
    let source = raw::Reader::open(FileRange::open(&at("disk.raw")).unwrap()).unwrap();
    println!(
        "{} MiB of data in {} MiB, {THREADS} threads, seconds:",
        DATA >> 20,
        SIZE >> 20
    );
    for round in 0..ROUNDS {
        let _ = fs::remove_file(at("own.qcow2"));
        let _ = fs::remove_file(at("qemu.qcow2"));
        let start = cpu();
        let own = copy(&source, &at("own.qcow2"), false);
        let own_cpu = cpu().0 - start.0;
        let (raw, target) = (text("disk.raw"), text("qemu.qcow2"));
        let qemu = qemu_img(&[
            "convert", "-W", "-m", "16", "-f", "raw", "-O", "qcow2", &raw, &target,
        ]);
        let qemu_cpu = cpu().1 - start.1;
        fs::remove_file(at("own.qcow2")).unwrap();
        let dense = copy(&source, &at("own.qcow2"), true);
        let back = read_all(
            &qcow2::Reader::open(
                FileRange::open(&at("own.qcow2")).unwrap(),
                image::Files::none(),
            )
            .unwrap(),
        );
        println!(
            "round {round}: own {own:.3} (cpu {own_cpu:.2}), qemu-img {qemu:.3} (cpu {qemu_cpu:.2}); own scanning the \
             holes too {dense:.3}; own read back {back:.3}"
        );
    }
    qemu_img(&["check", "-f", "qcow2", &text("own.qcow2")]);
    qemu_img(&[
        "compare",
        "-f",
        "raw",
        "-F",
        "qcow2",
        &text("disk.raw"),
        &text("own.qcow2"),
    ]);
    println!("checked clean and equal");
    fs::remove_dir_all(directory).unwrap();
}
