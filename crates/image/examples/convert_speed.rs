//! Copies an image to another format and says how fast that was:
//! `cargo run --release -p image --example convert_speed -- SRC DST FORMAT [KEY=VALUE …]`.

#![expect(clippy::print_stdout, reason = "a program that prints a measurement")]

use std::path::Path;
use std::time::Instant;

use image::copy::{CopyOptions, copy};
use image::formats::{OpenOptions, WriteOptions, create_with, open};
use types::CancelToken;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [src, dst, format, pairs @ ..] = args.as_slice() else {
        return Err("expected SRC DST FORMAT [KEY=VALUE …]".into());
    };
    let pairs: Vec<_> = pairs
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let options = WriteOptions::parse(format.parse()?, false, &pairs)?;
    let started = Instant::now();
    let source = open(Path::new(src), &OpenOptions::default())?;
    let sink = create_with(Path::new(dst), source.virtual_size(), &options)?;
    let how = CopyOptions::default();
    let stats = copy(
        source.as_ref(),
        sink.as_ref(),
        &how,
        &CancelToken::new(),
        &|_| (),
    )?;
    let written = sink.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!(
        "{seconds:.2} s, {:.0} MB/s of {} MB, file {} MB, {}",
        stats.data_bytes as f64 / 1e6 / seconds,
        stats.data_bytes / 1_000_000,
        written.file_len / 1_000_000,
        peak.unwrap_or_default()
    );
    Ok(())
}
