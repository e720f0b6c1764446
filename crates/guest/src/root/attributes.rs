//! Modes, owners, times, and directories of the guest: what few steps need.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, Uid,
};
use rustix::io::Errno;

use super::{Kind, Root, copy_label};
use crate::{Error, Result};

impl Root {
    /// Owner and group.
    pub fn owner(&self, path: &str) -> Result<(u32, u32)> {
        let stat = fs::fstat(self.open_at(path, OFlags::PATH)?)
            .map_err(|error| Error::io("asking for the owner", error).at(path))?;
        Ok((stat.st_uid, stat.st_gid))
    }

    /// Sets the permission bits of a file or directory, links followed.
    pub fn set_mode(&self, path: &str, mode: u32) -> Result<()> {
        fs::fchmod(self.open_plain(path)?, Mode::from_raw_mode(mode))
            .map_err(|error| Error::io("changing the mode", error).at(path))
    }

    /// Sets owner and group of a file or directory, links followed.
    pub fn set_owner(&self, path: &str, uid: u32, gid: u32) -> Result<()> {
        let file = self.open_plain(path)?;
        fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|error| Error::io("changing the owner", error).at(path))
    }

    /// Sets both times to now.
    pub fn touch(&self, path: &str) -> Result<()> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        fs::futimens(self.open_plain(path)?, &times)
            .map_err(|error| Error::io("changing the times", error).at(path))
    }

    /// Creates one directory, with its parent's SELinux label. Nothing may be there.
    pub fn create_dir(&self, path: &str, mode: u32) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let failed = |error: Errno| Error::io("creating the directory", error).at(path);
        fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let made = self.open_at(path, flags)?;
        fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(failed)?;
        copy_label(&parent, &made);
        Ok(())
    }

    /// Removes an empty directory; the last component is not followed.
    pub fn remove_dir(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
            .map_err(|error| Error::io("removing the directory", error).at(path))
    }

    /// Removes a directory with all below it, or a device, FIFO or socket; the last component is not followed. Nothing
    /// of another file system is removed. Returns how many entries there were below it.
    pub fn remove_tree(&self, path: &str) -> Result<u64> {
        let (parent, name) = self.parent(path)?;
        let failed = |error: Errno| Error::io("removing", error).at(path);
        let name =
            CString::new(name).map_err(|_| Error::corrupt("a name with a zero byte").at(path))?;
        let device = fs::fstat(&parent).map_err(failed)?.st_dev;
        let mut entries = 0;
        remove_entry(&parent, &name, device, 0, &mut entries).map_err(failed)?;
        Ok(entries)
    }

    /// Opens a file or directory; a device, FIFO or socket is refused.
    fn open_plain(&self, path: &str) -> Result<OwnedFd> {
        let kind = self.meta(path)?.kind;
        if !matches!(kind, Kind::File | Kind::Dir) {
            let message = format!("expected a file or directory, found {kind:?}");
            return Err(Error::corrupt(message).at(path));
        }
        self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }
}

/// Deeper trees are left; each level keeps a directory open.
const DEPTH_MAX: u32 = 512;

fn remove_entry(
    parent: &OwnedFd,
    name: &CStr,
    device: u64,
    depth: u32,
    entries: &mut u64,
) -> Result<(), Errno> {
    let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return fs::unlinkat(parent, name, AtFlags::empty());
    }
    if stat.st_dev != device {
        return Err(Errno::XDEV);
    }
    if depth == DEPTH_MAX {
        return Err(Errno::LOOP);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = fs::openat(parent, name, flags, Mode::empty())?;
    // Names are collected first: what readdir returns while entries go is not defined (readdir(3)).
    loop {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&dir)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
            if names.len() == BATCH {
                break;
            }
        }
        if names.is_empty() {
            break;
        }
        for name in &names {
            *entries += 1;
            remove_entry(&dir, name, device, depth + 1, entries)?;
        }
    }
    fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Names that are collected at a time.
const BATCH: usize = 4096;
