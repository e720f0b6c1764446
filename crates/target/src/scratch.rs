//! The one scratch folder of a conversion: `<output folder>/.NAME.v2v-<pid>[-<n>]`, mode 0700.
//!
//! ```text
//! .NAME.v2v-4711/
//!     lock       held by flock(2) while the process lives: the kernel frees it, even after kill -9
//!     placing    journal of the renames, while they happen (see `place`)
//!     result/    files that will get a final name
//!     …          whatever the pipeline puts here (overlays, sockets)
//! ```
//!
//! A folder whose lock is free has no owner: the next run for the same NAME takes the lock, undoes half-done
//! renames and removes it. The lock is created first and removed last, so a folder without one is empty; such a
//! folder is removed by rmdir only, and a creator that loses its folder that way tries again.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result, place};

const LOCK: &str = "lock";
const RESULT: &str = "result";
/// Names tried for one process and one NAME.
const ATTEMPTS: u32 = 100;

/// Whether two conversions may work for one NAME in one folder at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// No: both would want the same final names.
    Exclusive,
    /// Yes: nothing gets a final name there.
    Shared,
}

/// A locked scratch folder; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    /// Held open for its lock. `None` when the folder is gone.
    lock: Option<File>,
}

impl Scratch {
    /// Removes leftovers of dead runs for `name` in `parent`, refuses a living one, and makes a new folder.
    pub(crate) fn create(parent: &Path, name: &str, sharing: Sharing) -> Result<Self> {
        let prefix = format!(".{name}.v2v-");
        sweep(parent, &prefix, sharing)?;
        for attempt in 0..ATTEMPTS {
            let suffix = if attempt == 0 {
                String::new()
            } else {
                format!("-{attempt}")
            };
            let path = parent.join(format!("{prefix}{}{suffix}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::io_at("creating the scratch folder", &path, e)),
            }
            if let Some(lock) = lock_new(&path)? {
                let scratch = Self {
                    path,
                    lock: Some(lock),
                };
                let result = scratch.result_dir();
                fs::create_dir(&result).map_err(|e| Error::io_at("creating", &result, e))?;
                return Ok(scratch);
            }
        }
        Err(Error::new(
            ErrorKind::Io,
            format!(
                "no scratch folder could be made in {} after {ATTEMPTS} attempts",
                parent.display()
            ),
        ))
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where files wait for their final name.
    pub(crate) fn result_dir(&self) -> PathBuf {
        self.path.join(RESULT)
    }

    /// Removes the folder and everything in it; nothing to do the second time.
    pub(crate) fn remove(&mut self) -> Result<()> {
        match self.lock.take() {
            Some(_held_until_the_end) => remove_tree(&self.path)
                .map_err(|e| Error::io_at("removing the scratch folder", &self.path, e)),
            None => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, cause = ?std::error::Error::source(&error), "the scratch folder stays");
        }
    }
}

/// Creates and locks the lock of a new folder. `None` when a sweeper was faster.
fn lock_new(folder: &Path) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
    {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io_at("creating", &path, e)),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // A file system without locks: nobody else can take it either, so nobody will sweep this folder.
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, path = %path.display(), "cannot lock")
        }
    }
    let meta = file
        .metadata()
        .map_err(|e| Error::io_at("reading the status of", &path, e))?;
    Ok((meta.nlink() > 0).then_some(file))
}

/// Removes every ownerless scratch folder of this prefix that belongs to this user.
fn sweep(parent: &Path, prefix: &str, sharing: Sharing) -> Result<()> {
    let entries = fs::read_dir(parent).map_err(|e| Error::io_at("listing", parent, e))?;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io_at("listing", parent, e))?;
        let Some(pid) = owner_pid(&entry.file_name(), prefix) else {
            continue;
        };
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
            continue;
        }
        match sweep_one(parent, &path) {
            Ok(Swept::Alive) if sharing == Sharing::Exclusive => {
                return Err(Error::new(
                    ErrorKind::NameTaken,
                    format!(
                        "another conversion to this name is running: process {pid} holds {}",
                        path.display()
                    ),
                )
                .with_hint("wait for it, or give the result another name with -on NAME"));
            }
            Ok(Swept::Alive) => {}
            Ok(Swept::Gone) => {
                tracing::info!(path = %path.display(), "removed leftovers of an interrupted run")
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "leftovers of an interrupted run stay")
            }
        }
    }
    Ok(())
}

enum Swept {
    /// Its process lives (or cannot be told from a living one).
    Alive,
    /// It had no owner and was removed.
    Gone,
}

fn sweep_one(parent: &Path, path: &Path) -> io::Result<Swept> {
    let lock_path = path.join(LOCK);
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let lock = match OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nofollow)
        .open(&lock_path)
    {
        Ok(lock) => lock,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::remove_dir(path)?;
            return Ok(Swept::Gone);
        }
        Err(e) => return Err(e),
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Swept::Alive),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    if lock.metadata()?.nlink() == 0 {
        return Ok(Swept::Gone);
    }
    place::recover(path, parent)?;
    remove_tree(path)?;
    Ok(Swept::Gone)
}

/// Removes the folder: the lock after everything else, so that a removal that is interrupted can be taken up.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_file(path.join(LOCK))?;
    fs::remove_dir(path)
}

/// The process number in `PREFIX<pid>[-<n>]`, if the file name has this form.
fn owner_pid(file_name: &OsStr, prefix: &str) -> Option<u32> {
    let rest = file_name.as_bytes().strip_prefix(prefix.as_bytes())?;
    let rest = std::str::from_utf8(rest).ok()?;
    let (pid, n) = rest.split_once('-').unwrap_or((rest, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if digits(pid) && digits(n) {
        pid.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// A folder as a run that was killed leaves it.
    fn leftover(parent: &Path, name: &str) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir_all(path.join("result")).unwrap();
        fs::write(path.join("lock"), "").unwrap();
        fs::write(path.join("result/x-sda"), "half").unwrap();
        path
    }

    #[test]
    fn the_folder_is_private_locked_and_goes_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(dir.path(), "x", Sharing::Exclusive).unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            format!(".x.v2v-{}", std::process::id())
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        fs::create_dir(path.join("overlay")).unwrap();
        fs::write(path.join("overlay/0"), "data").unwrap();
        drop(scratch);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_living_run_for_the_same_name_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Scratch::create(dir.path(), "x", Sharing::Exclusive).unwrap();
        let error = Scratch::create(dir.path(), "x", Sharing::Exclusive).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken);
        assert!(error.to_string().contains(&std::process::id().to_string()));
        assert!(first.path().join(LOCK).exists());
        Scratch::create(dir.path(), "y", Sharing::Exclusive).unwrap();
        Scratch::create(dir.path(), "x", Sharing::Shared).unwrap();
    }

    #[test]
    fn leftovers_go_only_when_they_are_of_this_name_and_their_lock_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let dead = leftover(dir.path(), ".x.v2v-4294967");
        let dead_second = leftover(dir.path(), ".x.v2v-12-3");
        let bare = dir.path().join(".x.v2v-99");
        fs::create_dir(&bare).unwrap();
        let other_name = leftover(dir.path(), ".xy.v2v-4294967");
        let not_ours = leftover(dir.path(), ".x.v2v-12x");
        let link = dir.path().join(".x.v2v-77");
        std::os::unix::fs::symlink(&other_name, &link).unwrap();
        let scratch = Scratch::create(dir.path(), "x", Sharing::Exclusive).unwrap();
        assert!(scratch.path().exists());
        for gone in [dead, dead_second, bare] {
            assert!(!gone.exists(), "{} stayed", gone.display());
        }
        for kept in [other_name.join("result/x-sda"), not_ours, link] {
            assert!(kept.exists(), "{} was removed", kept.display());
        }
    }

    #[test]
    fn a_lock_held_by_another_process_protects_until_kill_9() {
        let dir = tempfile::tempdir().unwrap();
        let path = leftover(dir.path(), ".x.v2v-1");
        let mut holder = Command::new("flock")
            .arg(path.join("lock"))
            .args(["sh", "-c", "echo held; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock(1) of util-linux");
        let mut line = [0; 5];
        io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
        let error = Scratch::create(dir.path(), "x", Sharing::Exclusive).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken);
        assert!(path.join("result/x-sda").exists());
        // flock(1) forks: its child keeps the lock too, so the whole group must go.
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id())).unwrap();
        for child in children.split_whitespace() {
            let pid = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        holder.kill().unwrap();
        holder.wait().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while Scratch::create(dir.path(), "x", Sharing::Exclusive).is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "the lock of a dead process is still honoured"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let error = Scratch::create(Path::new("/proc"), "x", Sharing::Exclusive).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("/proc/.x.v2v-"), "{error}");
    }
}
