//! Room for what the tests build: on the disk of target/, else in memory.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const CACHE: &str = "V2V_TESTKIT_CACHE";
/// testkit's cache at its height, while the last guests are built: 8.7 GB were measured.
const GUESTS_GB: u64 = 9;
/// Everything else at its height: programs (3.3 GB), and what scenarios write; 6.5 GB were measured.
const REST_GB: u64 = 7;
/// What emulated machines and compilers want beside guests in memory.
const WORK_GB: u64 = 8;
const GB: u64 = 1_000_000_000;

/// Where the guests of the tests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// target/testkit.
    Disk,
    /// A tmpfs: then the disk has room for everything else.
    Memory,
    Nowhere,
}

/// `disk`: free, and in target/ already; `memory`: what a tmpfs may still take. Bytes.
fn place(disk: u64, memory: u64) -> Place {
    if disk >= (GUESTS_GB + REST_GB) * GB {
        Place::Disk
    } else if disk >= REST_GB * GB && memory >= (GUESTS_GB + WORK_GB) * GB {
        Place::Memory
    } else {
        Place::Nowhere
    }
}

/// Starts this program anew with the guests in memory where the disk has too little room for them. An error if neither has.
#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
pub(crate) fn ensure() -> Result<()> {
    if env::var_os(CACHE).is_some() {
        return Ok(());
    }
    let target = testkit::target_dir();
    fs::create_dir_all(&target).with_context(|| format!("creating {}", target.display()))?;
    let disk = free(&target)? + allocated(&target);
    let tmpfs = in_memory();
    let memory = match tmpfs.parent().map(free) {
        Some(Ok(room)) => room.min(available_memory()?) + allocated(&tmpfs),
        _ => 0,
    };
    let needs = format!(
        "{}: there is room for {:.1} GB, the tests need {} GB",
        target.display(),
        gigabytes(disk),
        GUESTS_GB + REST_GB
    );
    match place(disk, memory) {
        Place::Disk => Ok(()),
        Place::Nowhere => bail!(
            "{needs}, or {REST_GB} GB there and {} GB in {}, which has room for {:.1} GB",
            GUESTS_GB + WORK_GB,
            tmpfs.display(),
            gigabytes(memory)
        ),
        Place::Memory => {
            eprintln!("{needs}: guests are built in {}", tmpfs.display());
            let error = Command::new(env::current_exe().context("finding this program")?)
                .args(env::args_os().skip(1))
                .env(CACHE, &tmpfs)
                .exec();
            Err(error).context("starting this program anew")
        }
    }
}

/// Gives the memory back that [`ensure`] had taken.
pub(crate) fn give_back() -> Result<()> {
    let tmpfs = in_memory();
    if env::var_os(CACHE).is_some_and(|cache| cache == tmpfs.as_os_str()) && tmpfs.exists() {
        fs::remove_dir_all(&tmpfs).with_context(|| format!("removing {}", tmpfs.display()))?;
    }
    Ok(())
}

fn in_memory() -> PathBuf {
    Path::new("/dev/shm").join(format!(
        "v2v-testkit-{}",
        rustix::process::geteuid().as_raw()
    ))
}

fn free(dir: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(dir)
        .with_context(|| format!("asking for room in {}", dir.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Bytes on disk of everything below; what vanishes meanwhile counts nothing.
fn allocated(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => allocated(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// `MemAvailable` of /proc/meminfo (proc_meminfo(5)), in bytes.
fn available_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: u64 = kib
        .and_then(|kib| kib.trim().parse().ok())
        .context("/proc/meminfo: expected MemAvailable in kB")?;
    Ok(kib * 1024)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / GB as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_go_where_there_is_room() {
        let small = REST_GB * GB;
        let large = small + GUESTS_GB * GB;
        let memory = (GUESTS_GB + WORK_GB) * GB;
        for (disk, memory, expected) in [
            (large, 0, Place::Disk),
            (large - 1, memory, Place::Memory),
            (small, memory, Place::Memory),
            (small - 1, 1000 * GB, Place::Nowhere),
            (small, memory - 1, Place::Nowhere),
        ] {
            assert_eq!(place(disk, memory), expected, "{disk} {memory}");
        }
    }

    #[test]
    fn holes_take_no_room() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        let file = fs::File::create(dir.path().join("below/sparse")).unwrap();
        file.set_len(GB).unwrap();
        fs::write(dir.path().join("dense"), vec![1; 100_000]).unwrap();
        let bytes = allocated(dir.path());
        assert!((100_000..1_000_000).contains(&bytes), "{bytes}");
        assert!(available_memory().unwrap() > 0 && free(dir.path()).unwrap() > 0);
    }
}
