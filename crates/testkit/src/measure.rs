//! A program's wall-clock time and the peak of its own memory.
//!
//! The peak is `VmHWM` of the process (proc(5)), looked at until it ends. `getrusage` would count the QEMU that it started too.

use std::fs;
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cmd::tail;

/// The high-water mark only grows, so what is missed is growth within the last of these.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const TAIL_LINES: usize = 15;

/// What a run took.
#[derive(Clone, Debug)]
pub struct Measured {
    /// From the start to the end.
    pub elapsed: Duration,
    /// Peak resident memory of the process itself, in bytes.
    pub peak_rss_bytes: u64,
    /// Time on processors in user mode, as last seen before the end.
    pub user: Duration,
    /// The same in kernel mode.
    pub system: Duration,
    /// What it wrote on stdout.
    pub stdout: String,
}

/// Runs `cmd` to its end, which must be a success.
pub fn measure(cmd: &mut Command) -> Result<Measured> {
    let shown = format!("{cmd:?}");
    cmd.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child = cmd.spawn().with_context(|| format!("starting {shown}"))?;
    let out = child.stdout.take().map(collect);
    let err = child.stderr.take().map(collect);
    let proc = format!("/proc/{}", child.id());
    let mut peak_rss_bytes = 0;
    let mut times = (Duration::ZERO, Duration::ZERO);
    let status: ExitStatus = loop {
        if let Some(status) = child
            .try_wait()
            .with_context(|| format!("waiting for {shown}"))?
        {
            break status;
        }
        // A process that is just ending has no VmHWM any more.
        let seen = |file: &str| fs::read_to_string(format!("{proc}/{file}")).ok();
        let peak = seen("status").as_deref().and_then(high_water_mark);
        peak_rss_bytes = peak_rss_bytes.max(peak.unwrap_or(0));
        if let Some(seen) = seen("stat").as_deref().and_then(processor_times) {
            times = (times.0.max(seen.0), times.1.max(seen.1));
        }
        thread::sleep(LOOK_EVERY);
    };
    let elapsed = begin.elapsed();
    let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        let bytes = reader
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (text(out), text(err));
    if !status.success() {
        bail!(
            "{shown} ended with {status}:\n{}",
            tail(&format!("{stdout}{stderr}"), TAIL_LINES)
        );
    }
    Ok(Measured {
        elapsed,
        peak_rss_bytes,
        user: times.0,
        system: times.1,
        stdout,
    })
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still shown.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// The line `VmHWM:   1234 kB`.
pub(crate) fn high_water_mark(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

/// Fields 14 and 15 of proc_pid_stat(5), `utime` and `stime`, which follow the name in parentheses. Linux counts
/// them in hundredths of a second on every architecture that v2v runs on (`sysconf(_SC_CLK_TCK)`).
fn processor_times(stat: &str) -> Option<(Duration, Duration)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut time = || {
        Some(Duration::from_millis(
            10 * times.next()?.parse::<u64>().ok()?,
        ))
    };
    Some((time()?, time()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_memory_and_output_are_those_of_the_program() {
        // Reads 64 MiB into one variable.
        let script = "x=$(head -c 67108864 /dev/zero | tr '\\0' x); sleep 0.1; echo ${#x}";
        let run = measure(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(run.stdout.trim(), "67108864");
        assert!(run.elapsed >= Duration::from_millis(100));
        assert!(
            (64 << 20..1 << 30).contains(&run.peak_rss_bytes),
            "{}",
            run.peak_rss_bytes
        );
        assert!(run.user <= 2 * run.elapsed);
        let stat = "12 (a) b) R 1 1 1 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0";
        let times = (Duration::from_millis(1500), Duration::from_millis(500));
        assert_eq!(processor_times(stat), Some(times));
        assert!(measure(&mut Command::new("false")).is_err());
        assert_eq!(
            high_water_mark("VmPeak:\t1 kB\nVmHWM:\t    12 kB\n"),
            Some(12288)
        );
    }
}
