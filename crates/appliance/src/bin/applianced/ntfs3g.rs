//! NTFS, mounted by ntfs-3g (ntfs-3g(8)): a FUSE process that runs as long as the mount does.
//!
//! It drops a journal that it does not like (`recover`, its default) or falls back to a read-only mount; neither may
//! happen unseen, so a writable mount says `norecover` and `rw`, and the volume's own flags are read before
//! ([`crate::volume`]). New files inherit the access list of their folder as Windows would do it, which needs a mapping of
//! users: root is the Administrators group.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::mounts::{self, Access};
use crate::tool::memory_file;

const NTFS_3G: &str = "/usr/bin/ntfs-3g";
/// Where the mapping of users lies, outside of every guest.
const MAPPING: &str = "/run/ntfs-users";
/// `UID:GID:SID`: S-1-5-32-544 is BUILTIN\Administrators (Windows, "Well-known SIDs"). The second line gives every other
/// number a SID, as the program wants it; no other user writes here.
const USERS: &str = "0:0:S-1-5-32-544\n::S-1-5-21-3141592653-589793238-462643383-10000\n";
/// Its exit statuses (ntfs-3g, `include/ntfs-3g/volume.h`): hibernated, not unmounted cleanly.
const HIBERNATED: i32 = 14;
const UNCLEAN: i32 = 15;
/// Mounting reads little; a disk that is slow over a network has this long.
const PATIENCE: Duration = Duration::from_secs(300);
/// For writing back what is in memory when a volume is unmounted.
const FAREWELL: Duration = Duration::from_secs(600);
/// Of what it says, this much is read.
const MAX_WORDS: u64 = 64 << 10;

/// A running ntfs-3g.
struct Daemon {
    target: String,
    child: Child,
    words: File,
}

static RUNNING: Mutex<Vec<Daemon>> = Mutex::new(Vec::new());

/// Mount options.
fn options(access: Access) -> String {
    let own = match access {
        Access::Force => "rw,recover,remove_hiberfile",
        Access::Write => "rw,norecover",
        Access::Peek | Access::Read => "ro,norecover",
    };
    format!(
        "{own},no_detach,nosuid,nodev,noexec,noatime,inherit,usermapping={MAPPING},streams_interface=none,\
         windows_names,nocompression,big_writes"
    )
}

/// Mounts the volume on `node`, called `name` in messages, at `target`.
pub(crate) fn mount(node: &Path, name: &str, target: &Path, access: Access) -> Result<()> {
    fs::write(MAPPING, USERS).with_context(|| format!("writing {MAPPING}"))?;
    // A handle of this process means nothing to another one.
    let target = if target.starts_with("/proc/self/fd") {
        fs::read_link(target).context("resolving a mount point")?
    } else {
        target.to_owned()
    };
    let mut words = memory_file()?;
    let mut command = Command::new(NTFS_3G);
    command
        .arg(node)
        .arg(&target)
        .args(["-o", &options(access)])
        .env_clear()
        .envs([("PATH", "/usr/sbin:/usr/bin"), ("LC_ALL", "C.UTF-8")])
        .stdin(Stdio::null())
        .stdout(Stdio::from(words.try_clone()?))
        .stderr(Stdio::from(words.try_clone()?));
    let mut child = command.spawn().context("running ntfs-3g")?;
    let place = target.display().to_string();
    if let Some(status) = wait_for_mount(&mut child, &place)? {
        let said = spoken(&mut words, node, name);
        bail!("mounting {name} (ntfs): {}", failure(status, &said));
    }
    tracing::debug!("ntfs-3g serves {name} at {place} ({access:?})");
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.push(Daemon {
        target: place,
        child,
        words,
    });
    Ok(())
}

/// `None` once it is mounted; the status of a program that ended instead.
fn wait_for_mount(child: &mut Child, place: &str) -> Result<Option<Option<ExitStatus>>> {
    let began = Instant::now();
    loop {
        match ended(child) {
            Ended::No => {}
            Ended::With(status) => return Ok(Some(status)),
        }
        if mounts::below(place)?.iter().any(|target| target == place) {
            return Ok(None);
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            bail!("ntfs-3g took longer than {} s", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(3));
    }
}

enum Ended {
    No,
    /// The status is unknown where someone else reaped it.
    With(Option<ExitStatus>),
}

fn ended(child: &mut Child) -> Ended {
    match child.try_wait() {
        Ok(None) => Ended::No,
        Ok(Some(status)) => Ended::With(Some(status)),
        Err(_) => Ended::With(None),
    }
}

/// Waits for the processes whose volumes are not mounted any more: what they had in memory is on the disks then.
pub(crate) fn settle() -> Result<()> {
    let mounted = mounts::below("")?;
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (kept, gone): (Vec<_>, Vec<_>) = running
        .drain(..)
        .partition(|daemon| mounted.contains(&daemon.target));
    *running = kept;
    drop(running);
    for mut daemon in gone {
        let began = Instant::now();
        let status = loop {
            match ended(&mut daemon.child) {
                Ended::With(status) => break status,
                Ended::No if began.elapsed() > FAREWELL => {
                    let _ = daemon.child.kill();
                    let _ = daemon.child.wait();
                    bail!("ntfs-3g did not end after {} was unmounted", daemon.target);
                }
                Ended::No => thread::sleep(Duration::from_millis(3)),
            }
        };
        let said = read(&mut daemon.words);
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            tracing::debug!("ntfs-3g: {}", line.trim());
        }
        if status.is_some_and(|status| !status.success()) {
            bail!("unmounting NTFS: {}", failure(status, &said));
        }
    }
    Ok(())
}

fn read(words: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = words
        .rewind()
        .and_then(|()| words.take(MAX_WORDS).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    }
}

fn spoken(words: &mut File, node: &Path, name: &str) -> String {
    read(words).replace(&node.display().to_string(), name)
}

/// What an exit status and the words beside it mean to an administrator.
fn failure(status: Option<ExitStatus>, said: &str) -> String {
    match status.and_then(|status| status.code()) {
        Some(HIBERNATED) => crate::volume::HIBERNATED.to_owned(),
        Some(UNCLEAN) => crate::volume::UNCLEAN.to_owned(),
        code => {
            let first = said.lines().map(str::trim).find(|line| !line.is_empty());
            let code = code.map_or("a signal".to_owned(), |code| format!("exit status {code}"));
            format!("{} ({code})", first.unwrap_or("ntfs-3g said nothing"))
        }
    }
}

/// True when ntfs-3g is in the image.
pub(crate) fn is_present() -> bool {
    PathBuf::from(NTFS_3G).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_dropped_by_force_only() {
        for access in [Access::Peek, Access::Read] {
            assert!(options(access).starts_with("ro,norecover,"));
        }
        assert!(options(Access::Write).starts_with("rw,norecover,"));
        assert!(!options(Access::Write).contains("remove_hiberfile"));
        assert!(options(Access::Force).starts_with("rw,recover,remove_hiberfile,"));
        for wanted in ["nosuid", "nodev", "noexec", "inherit", "no_detach"] {
            assert!(
                options(Access::Write)
                    .split(',')
                    .any(|option| option == wanted),
                "{wanted}"
            );
        }
    }

    #[test]
    fn exit_statuses_become_advice() {
        use std::os::unix::process::ExitStatusExt;
        let status = |code: i32| Some(ExitStatus::from_raw(code << 8));
        assert!(failure(status(UNCLEAN), "x").contains("chkdsk"));
        assert!(failure(status(HIBERNATED), "x").contains("powercfg"));
        assert_eq!(
            failure(status(12), "\nFailed to mount\nmore"),
            "Failed to mount (exit status 12)"
        );
    }
}
