//! Faults on purpose: a file system that fills up, a child killed at a random moment.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cmd;

/// A small ext4 file system in a file, loop-mounted (root only), for ENOSPC. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallFs {
    mount_point: PathBuf,
    // Holds the image and the mount point; removed after the unmount in `drop`.
    _dir: TempDir,
}

impl SmallFs {
    /// Makes and mounts a file system of `mib` mebibytes, of which the file system itself takes a part.
    pub fn new(mib: u64) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("v2v-smallfs-")
            .tempdir()
            .context("creating a scratch directory")?;
        let image = dir.path().join("image");
        File::create(&image)?
            .set_len(mib << 20)
            .context("sizing the small file system")?;
        cmd::output(
            cmd::command(
                "mke2fs",
                ["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal"],
            )
            .arg(&image),
        )?;
        let mount_point = dir.path().join("mnt");
        std::fs::create_dir(&mount_point)?;
        cmd::output(
            cmd::command("mount", ["-o", "loop"])
                .arg(&image)
                .arg(&mount_point),
        )?;
        Ok(Self {
            mount_point,
            _dir: dir,
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }
}

impl Drop for SmallFs {
    fn drop(&mut self) {
        // A file still open in a test must not leave the mount behind: detach lazily.
        let _ = cmd::output(cmd::command("umount", ["-l"]).arg(&self.mount_point));
    }
}

/// Kills `child` (SIGKILL) at a random moment within `window` and reaps it. Returns when it was killed, and how it had ended
/// where it was faster. `seed` decides the moment, so that a failure can be repeated.
pub fn kill_at_random(
    child: &mut Child,
    window: Duration,
    seed: u64,
) -> Result<(Duration, Option<ExitStatus>)> {
    let begin = Instant::now();
    let moment = window.mul_f64(fraction(seed));
    while begin.elapsed() < moment {
        if let Some(status) = child.try_wait().context("looking at the child")? {
            return Ok((begin.elapsed(), Some(status)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().context("killing the child")?;
    child.wait().context("reaping the child")?;
    Ok((begin.elapsed(), None))
}

/// Spreads seeds evenly over 0..1 (one step of SplitMix64).
fn fraction(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let top = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(top) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_killed_or_seen_to_have_ended() {
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let (when, ended) = kill_at_random(&mut sleeper, Duration::from_millis(200), 1).unwrap();
        assert!(ended.is_none() && when < Duration::from_secs(5));
        let mut quick = Command::new("true").spawn().unwrap();
        // The first seed whose moment is late enough for `true` to be over.
        let seed = (0..).find(|seed| fraction(*seed) > 0.5).unwrap();
        let (_, ended) = kill_at_random(&mut quick, Duration::from_secs(20), seed).unwrap();
        assert!(ended.unwrap().success());
        assert!((0..20).map(fraction).any(|f| f < 0.3) && (0..20).map(fraction).any(|f| f > 0.7));
    }

    #[test]
    fn a_small_file_system_fills_up_and_leaves_no_mount() {
        if !crate::require_root() {
            return;
        }
        let fs = match SmallFs::new(4) {
            Ok(fs) => fs,
            Err(_) => return crate::skip("loop mounts do not work"),
        };
        let path = fs.path().to_path_buf();
        let err = File::create(path.join("big"))
            .unwrap()
            .write_all(&vec![1; 8 << 20])
            .unwrap_err();
        assert_eq!(err.kind(), std::io::ErrorKind::StorageFull);
        drop(fs);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(path.to_str().unwrap()));
        assert!(!path.exists());
    }
}
