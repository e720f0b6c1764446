//! Runs a script with the guest's own programs: the one place where code of the guest runs, when it was allowed.
//!
//! ```text
//!   applianced ── fork, exec ──> outer: new mount, pid, uts, ipc and net namespaces
//!                                  └── fork, exec ──> inner, PID 1 of them: the guest becomes /, with a small /dev,
//!                                        read-only /proc and /sys, fresh /run and /tmp; few capabilities
//!                                          └── fork, exec ──> the script
//! ```
//!
//! When the script ends, inner ends, and the kernel kills whatever else is in its pid namespace. There is no network but
//! a loopback that is down. The disks' device nodes are out of reach: the guest's file systems are mounted nodev, and
//! the capability to make nodes is gone. Root of the guest's script stays root of the guest's files, which is the point.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_change, mount_move, mount_remount,
};
use rustix::process::{Signal, WaitOptions, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use crate::mounts::GUEST;

/// The host takes half an hour of silence for death; a script must be done before.
const TIMEOUT: Duration = Duration::from_secs(1500);
/// Lines of output that are logged, and the bytes of each.
const LINES_MAX: usize = 10_000;
const LINE_MAX: u64 = 1024;
/// Exit status when the script could not be started at all.
const NOT_STARTED: i32 = 125;
/// First arguments by which this program knows that it is one of the two.
const OUTER: &str = "run-guest-outer";
const INNER: &str = "run-guest-inner";
const SCRIPT: &str = "/tmp/v2v-script";

/// What installing and configuring software needs, and no more.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP);

/// Name, major and minor number of the nodes in /dev (Documentation/admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Runs scripts in the guest that is mounted.
#[derive(Debug)]
pub(crate) struct RunGuest;

impl guest::GuestCode for RunGuest {
    fn run(&self, name: &str, script: &str) -> Result<(), String> {
        run(name, script).map_err(|error| format!("{error:#}"))
    }
}

fn run(name: &str, script: &str) -> Result<()> {
    let (reader, writer) = io::pipe().context("creating a pipe")?;
    let mut child = Command::new("/proc/self/exe")
        .arg(OUTER)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().context("creating a pipe")?)
        .stderr(writer)
        .env_clear()
        .spawn()
        .context("starting the guest's shell")?;
    let logger = thread::spawn(move || log_lines(reader));
    let given = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(script.as_bytes()));
    let ended = wait(&mut child);
    let last = logger.join().unwrap_or_default();
    given
        .transpose()
        .context("giving the script to the guest's shell")?;
    let status = ended?;
    if status.success() {
        tracing::info!("{name} is done");
        return Ok(());
    }
    bail!("{}: {last}", how(status))
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(NOT_STARTED), _) => "it could not be started".to_owned(),
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("waiting for the guest's shell")? {
            return Ok(status);
        }
        if began.elapsed() > TIMEOUT {
            child
                .kill()
                .and_then(|()| child.wait())
                .context("killing the guest's shell")?;
            bail!("it took longer than {} s", TIMEOUT.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Logs output line by line; returns the last one. What is too long or too much is read and dropped.
fn log_lines(reader: impl Read) -> String {
    let mut reader = BufReader::new(reader);
    let mut last = "it said nothing".to_owned();
    let mut lines = 0;
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return last,
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
        if text.is_empty() {
            continue;
        }
        text.clone_into(&mut last);
        lines += 1;
        match lines {
            ..=LINES_MAX => tracing::info!("guest: {text}"),
            _ if lines == LINES_MAX + 1 => tracing::info!("guest: more output follows"),
            _ => {}
        }
    }
}

/// Runs this process as outer or inner, if its first argument says so; returns the exit status.
pub(crate) fn stage(argument: Option<&str>) -> Option<i32> {
    let result = match argument? {
        OUTER => outer(),
        INNER => inner(),
        _ => return None,
    };
    Some(result.unwrap_or_else(|error| {
        crate::console::line(&format!("{error:#}"));
        NOT_STARTED
    }))
}

#[expect(
    deprecated,
    reason = "unshare is unsound only with CLONE_FILES, which is not asked for; the other spelling is unsafe"
)]
fn outer() -> Result<i32> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking for a signal")?;
    // A user namespace would give all capabilities back inside.
    crate::init::set("/proc/sys/user/max_user_namespaces", "0");
    let namespaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWNET;
    rustix::thread::unshare(namespaces).context("entering namespaces of its own")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).context("making the mounts private")?;
    let status = Command::new("/proc/self/exe")
        .arg(INNER)
        .status()
        .context("starting the first process of a namespace")?;
    Ok(code(status.code(), status.signal()))
}

/// As a shell puts it.
fn code(code: Option<i32>, signal: Option<i32>) -> i32 {
    code.unwrap_or_else(|| 128 + signal.unwrap_or(0))
}

fn inner() -> Result<i32> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking for a signal")?;
    let mut script = String::new();
    io::stdin()
        .read_to_string(&mut script)
        .context("reading the script")?;
    enter_guest()?;
    furnish()?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(SCRIPT)
        .context("writing the script")?;
    file.write_all(script.as_bytes())
        .context("writing the script")?;
    drop(file);
    drop_capabilities().context("giving up capabilities")?;
    let mut command = if script.starts_with("#!") {
        Command::new(SCRIPT)
    } else {
        let mut shell = Command::new("/bin/sh");
        shell.arg(SCRIPT);
        shell
    };
    let child = command
        .env_clear()
        .envs([
            (
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ),
            ("HOME", "/root"),
            ("LC_ALL", "C"),
            ("TERM", "dumb"),
            ("DEBIAN_FRONTEND", "noninteractive"),
        ])
        .current_dir("/")
        .stdin(Stdio::null())
        .spawn()
        .context("starting the script")?;
    let child = i32::try_from(child.id()).context("a process id")?;
    // PID 1 reaps whatever its descendants leave.
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child => {
                return Ok(code(status.exit_status(), status.terminating_signal()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("waiting for the script: {error}"),
        }
    }
}

/// Makes the guest's root the only root there is, programs allowed: as switch_root(8) does, because the kernel does not
/// pivot away from its first file system.
fn enter_guest() -> Result<()> {
    for target in crate::mounts::below(GUEST)? {
        let flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
        mount_remount(target.as_str(), flags, "")
            .with_context(|| format!("allowing programs on {target}"))?;
    }
    rustix::process::chdir(GUEST).context("entering the guest")?;
    mount_move(".", "/").context("moving the guest's mounts")?;
    rustix::process::chroot(".").context("entering the guest")?;
    rustix::process::chdir("/").context("entering the guest")
}

/// /dev, /proc, /sys, /run and /tmp as programs expect them. Paths are looked up in the guest, which is the root now.
fn furnish() -> Result<()> {
    let none = MountFlags::NOSUID | MountFlags::NODEV;
    let closed = none | MountFlags::NOEXEC | MountFlags::RDONLY;
    for (fs_type, target, flags, data) in [
        (
            "tmpfs",
            "/dev",
            MountFlags::NOSUID | MountFlags::NOEXEC,
            c"mode=0755,size=1m",
        ),
        ("proc", "/proc", closed, c""),
        ("sysfs", "/sys", closed, c""),
        ("tmpfs", "/run", none, c"mode=0755"),
        ("tmpfs", "/tmp", none, c"mode=1777"),
    ] {
        mount(fs_type, target, fs_type, flags, Some(data))
            .with_context(|| format!("mounting {target} in the guest"))?;
    }
    for (name, major, minor) in NODES {
        let path = format!("/dev/{name}");
        mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(major, minor),
        )
        .and_then(|()| rustix::fs::chmod(&path, Mode::from_raw_mode(0o666)))
        .with_context(|| format!("creating {path}"))?;
    }
    for (name, target) in [
        ("fd", ""),
        ("stdin", "/0"),
        ("stdout", "/1"),
        ("stderr", "/2"),
    ] {
        symlink(
            format!("/proc/self/fd{target}"),
            Path::new("/dev").join(name),
        )
        .with_context(|| format!("creating /dev/{name}"))?;
    }
    fs::create_dir("/dev/shm")
        .and_then(|()| fs::set_permissions("/dev/shm", fs::Permissions::from_mode(0o1777)))
        .context("creating /dev/shm")?;
    rustix::system::sethostname(b"localhost").context("naming the namespace")
}

/// Of the bounding set, too: what it lacks, no program gets.
fn drop_capabilities() -> rustix::io::Result<()> {
    let known = rustix::thread::capabilities(None)?.permitted;
    for capability in known.iter() {
        if !CAPABILITIES.contains(capability) {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    let kept = known.intersection(CAPABILITIES);
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_told_as_a_shell_tells_them() {
        assert_eq!(how(ExitStatus::from_raw(3 << 8)), "exit status 3");
        assert_eq!(how(ExitStatus::from_raw(9)), "signal 9");
        assert_eq!((code(Some(4), None), code(None, Some(9))), (4, 137));
    }

    #[test]
    fn output_is_bounded_and_its_last_line_known() {
        let mut output = vec![b'x'; 4 << 20];
        output.extend_from_slice(b"\n\x1b[0m\n  the end \n\n");
        assert_eq!(log_lines(output.as_slice()), "the end");
        assert_eq!(log_lines(io::empty()), "it said nothing");
    }

    #[test]
    fn only_the_two_words_start_a_stage() {
        assert_eq!(stage(None), None);
        assert_eq!(stage(Some("quiet")), None);
    }
}
