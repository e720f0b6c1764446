//! Measures the conversion to qcow2, plain and compressed, against `qemu-img convert -W -m 16` and `cp
//! --sparse=always`: best of three, in one run, on one file system (that of `$TMPDIR`; put it on tmpfs, where the disk
//! does not blur the figure). The source is given, or is made: 800 MiB of noise and text in 2 GiB.
//!
//!     TMPDIR=/dev/shm cargo run --release -p image --example qcow2_write_speed [SOURCE]

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a measurement prints, and stops at the first failure"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use image::copy::{CopyOptions, copy};
use image::formats::{OpenOptions, OutputFormat, WriteOptions, create_with, open};
use types::CancelToken;

const SIZE: u64 = 2 << 30;
const DATA: u64 = 800 << 20;
const CHUNK: u64 = 1 << 20;
const ROUNDS: usize = 3;

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

/// Converts with our copy engine.
fn convert(source: &Path, target: &Path, mode: &Mode) -> f64 {
    let start = Instant::now();
    let source = open(source, &OpenOptions::default()).unwrap();
    let pairs: Vec<_> = mode
        .option
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let options = WriteOptions::parse(OutputFormat::Qcow2, mode.compress, &pairs).unwrap();
    let sink = create_with(target, source.virtual_size(), &options).unwrap();
    copy(
        &*source,
        &*sink,
        &CopyOptions::default(),
        &CancelToken::new(),
        &|_| {},
    )
    .unwrap();
    sink.finish().unwrap();
    start.elapsed().as_secs_f64()
}

struct Mode {
    name: &'static str,
    compress: bool,
    option: Option<(&'static str, &'static str)>,
}

const MODES: [Mode; 3] = [
    Mode {
        name: "plain",
        compress: false,
        option: None,
    },
    Mode {
        name: "-c zlib",
        compress: true,
        option: None,
    },
    Mode {
        name: "-c zstd",
        compress: true,
        option: Some(("compression_type", "zstd")),
    },
];

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

/// Runs a program; it syncs its output when it is told to (`-t none` is not fair on tmpfs), so a sync is added.
fn run(program: &str, args: &[&str]) -> f64 {
    let start = Instant::now();
    let status = Command::new(program)
        .args(args)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{program} {args:?}");
    start.elapsed().as_secs_f64()
}

fn sync(path: &Path) -> f64 {
    let start = Instant::now();
    File::open(path).unwrap().sync_all().unwrap();
    start.elapsed().as_secs_f64()
}

fn theirs(source: &Path, target: &Path, mode: &Mode) -> f64 {
    let option = mode.option.map(|(key, value)| format!("{key}={value}"));
    let mut args = vec!["convert", "-W", "-m", "16", "-O", "qcow2"];
    if mode.compress {
        args.push("-c");
    }
    if let Some(option) = &option {
        args.extend(["-o", option]);
    }
    args.extend([source.to_str().unwrap(), target.to_str().unwrap()]);
    run("qemu-img", &args) + sync(target)
}

fn main() {
    let directory = std::env::temp_dir().join(format!("qcow2_write_speed.{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let at = |name: &str| directory.join(name);
    let source = match std::env::args_os().nth(1) {
        Some(source) => PathBuf::from(source),
        None => {
            make_disk(&at("disk.raw"));
            at("disk.raw")
        }
    };
    let (own, qemu, copied) = (at("own.qcow2"), at("qemu.qcow2"), at("copy"));
    let best =
        |times: &mut dyn FnMut() -> f64| (0..ROUNDS).map(|_| times()).fold(f64::INFINITY, f64::min);
    let cp = best(&mut || {
        let _ = fs::remove_file(&copied);
        let args = [
            "--sparse=always",
            source.to_str().unwrap(),
            copied.to_str().unwrap(),
        ];
        run("cp", &args) + sync(&copied)
    });
    let _ = fs::remove_file(&copied);
    println!("cp --sparse=always: {cp:.3} s");
    for mode in &MODES {
        let start = cpu();
        let ours = best(&mut || {
            let _ = fs::remove_file(&own);
            convert(&source, &own, mode)
        });
        let theirs = best(&mut || {
            let _ = fs::remove_file(&qemu);
            theirs(&source, &qemu, mode)
        });
        let end = cpu();
        let len = |path: &Path| fs::metadata(path).unwrap().len() >> 10;
        println!(
            "{}: own {ours:.3} s (cpu {:.2}), {} KiB; qemu-img {theirs:.3} s (cpu {:.2}), {} KiB; {:.2} times as fast, \
             {:.2} of cp",
            mode.name,
            (end.0 - start.0) / ROUNDS as f64,
            len(&own),
            (end.1 - start.1) / ROUNDS as f64,
            len(&qemu),
            theirs / ours,
            ours / cp,
        );
        run("qemu-img", &["check", "-f", "qcow2", own.to_str().unwrap()]);
        let args = ["compare", source.to_str().unwrap(), own.to_str().unwrap()];
        run("qemu-img", &args);
    }
    println!("checked clean and equal");
    fs::remove_dir_all(directory).unwrap();
}
