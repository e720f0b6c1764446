//! An NTFS volume in a file: made, mounted through FUSE while something looks at it, and closed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::XattrFlags;

use super::Span;
use crate::cmd;

/// For mounting and unmounting.
const PATIENCE: Duration = Duration::from_secs(60);

/// A volume in a file of its own.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
}

/// Unmounts when it is dropped.
struct Mounted {
    point: PathBuf,
    child: Child,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let since = Instant::now();
        // A process that another thread forks holds our files for a moment.
        let unmount = || Command::new("umount").arg(&self.point).output();
        while since.elapsed() < PATIENCE && !unmount().is_ok_and(|output| output.status.success()) {
            thread::sleep(Duration::from_millis(20));
        }
        // What was written is in the file when the process has ended.
        while since.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Volume {
    /// The volume in this file.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Formats a new file for a partition at `span`, with the geometry that BIOS code wants.
    pub fn format(path: &Path, span: Span, label: &str) -> Result<Self> {
        fs::File::create(path)?.set_len(span.len)?;
        let start = (span.start / 512).to_string();
        let options = [
            "-F", "-q", "-Q", "-s", "512", "-H", "255", "-S", "63", "-L", label, "-p", &start,
        ];
        cmd::output(cmd::command("mkntfs", options).arg(path))?;
        Ok(Self::at(path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts it with these options while `work` runs; the process is gone when this returns.
    pub fn mounted<T>(&self, options: &str, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let point = self.path.with_extension("mnt");
        fs::create_dir_all(&point)?;
        let users = self.path.with_extension("users");
        fs::write(&users, "0:0:S-1-5-32-544\n::S-1-5-21-1-2-3-10000\n")?;
        let journal = if options.contains("recover") {
            ""
        } else {
            "norecover,"
        };
        let options = format!(
            "{options},{journal}no_detach,inherit,usermapping={}",
            users.display()
        );
        let child = Command::new("ntfs-3g")
            .arg(&self.path)
            .arg(&point)
            .args(["-o", &options])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting ntfs-3g")?;
        let mut mounted = Mounted { point, child };
        let since = Instant::now();
        while !is_mounted(&mounted.point)? {
            if let Ok(Some(status)) = mounted.child.try_wait() {
                bail!(
                    "ntfs-3g -o {options} {} ended with {status}",
                    self.path.display()
                );
            }
            ensure!(since.elapsed() < PATIENCE, "ntfs-3g does not mount");
            thread::sleep(Duration::from_millis(5));
        }
        let result = work(&mounted.point);
        let point = mounted.point.clone();
        drop(mounted);
        fs::remove_dir(&point).with_context(|| format!("removing {}", point.display()))?;
        fs::remove_file(&users)?;
        result
    }

    /// Overwrites what is in the first page of the journal so that it looks as if Windows had not closed it.
    pub fn leave_open(&self) -> Result<()> {
        let info = cmd::output(cmd::command("ntfsinfo", ["-i", "2", "-v"]).arg(&self.path))?;
        // The line behind the head of the table: first cluster in the file, on the volume, count.
        let cluster = info
            .lines()
            .skip_while(|line| !line.contains("Runlist:"))
            .nth(1)
            .and_then(|line| line.split_whitespace().nth(1))
            .and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok())
            .with_context(|| format!("ntfsinfo does not say where the journal is: {info}"))?;
        let file = fs::File::options().write(true).open(&self.path)?;
        for page in 0..2 {
            file.write_all_at(&open_page(page + 1), cluster * 4096 + page * 4096)?;
        }
        file.sync_all()?;
        Ok(())
    }
}

/// A restart page of a journal with one client that has it open (LFS 1.1).
fn open_page(lsn: u64) -> Vec<u8> {
    let mut page = vec![0u8; 4096];
    let fields: [(usize, &[u8]); 17] = [
        (0x00, b"RSTR"),
        // 9 update sequence numbers at 0x1e.
        (0x04, &[0x1e, 0, 9, 0]),
        // Pages of 4096 bytes, the restart area at 0x30.
        (0x10, &[0, 16, 0, 0, 0, 16, 0, 0, 0x30, 0, 1, 0, 1, 0]),
        (0x1e, &[1, 0]),
        (0x30, &lsn.to_le_bytes()),
        // One client, none free, the first in use, not clean.
        (0x38, &[1, 0, 0xff, 0xff, 0, 0, 0, 0]),
        (0x40, &[40, 0, 0, 0, 0xe0, 0, 0x40, 0, 0, 0, 0, 4]),
        (0x54, &[0x30, 0, 0x40, 0]),
        (0x80, &[0xff, 0xff, 0xff, 0xff]),
        (0x8c, &[8, 0, 0, 0]),
        (0x90, b"N\0T\0F\0S\0"),
        (0x1fe, &[1, 0]),
        (0x3fe, &[1, 0]),
        (0x5fe, &[1, 0]),
        (0x7fe, &[1, 0]),
        (0x9fe, &[1, 0]),
        (0xbfe, &[1, 0]),
    ];
    for (at, bytes) in fields
        .into_iter()
        .chain([(0xdfe, &[1, 0][..]), (0xffe, &[1, 0])])
    {
        if let Some(place) = page.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    page
}

fn is_mounted(point: &Path) -> Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let point = fs::canonicalize(point)?.display().to_string();
    Ok(table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(point.as_str())))
}

/// Gives a directory the access list of a Windows folder: SYSTEM and Administrators do everything, Users read, and all below
/// inherits it.
pub(super) fn protect(dir: &Path) -> Result<()> {
    let sid = |parts: &[u32]| {
        let mut sid = vec![
            1,
            u8::try_from(parts.len()).unwrap_or_default(),
            0,
            0,
            0,
            0,
            0,
            5,
        ];
        sid.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
        sid
    };
    let (system, administrators, users) = (sid(&[18]), sid(&[32, 544]), sid(&[32, 545]));
    let mut entries = Vec::new();
    for (mask, sid) in [
        (0x001f_01ff_u32, &system),
        (0x001f_01ff, &administrators),
        (0x0012_00a9, &users),
    ] {
        // Allowed, inherited by files and folders.
        entries.extend([0, 3]);
        entries.extend((u16::try_from(8 + sid.len())?).to_le_bytes());
        entries.extend(mask.to_le_bytes());
        entries.extend(sid);
    }
    let mut list = vec![2, 0];
    list.extend((u16::try_from(8 + entries.len())?).to_le_bytes());
    list.extend([3, 0, 0, 0]);
    list.extend(entries);
    let group_at = u32::try_from(20 + administrators.len())?;
    let list_at = group_at + u32::try_from(system.len())?;
    // Self-relative, with a list.
    let mut descriptor = vec![1, 0, 4, 0x80];
    for offset in [20, group_at, 0, list_at] {
        descriptor.extend(offset.to_le_bytes());
    }
    descriptor.extend(administrators);
    descriptor.extend(system);
    descriptor.extend(list);
    rustix::fs::setxattr(dir, "system.ntfs_acl", &descriptor, XattrFlags::empty())
        .context("setting an access list")
}

/// Bytes that do not repeat and do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
