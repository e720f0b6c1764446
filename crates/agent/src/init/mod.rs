//! What the agent does as PID 1 of the machine that booted the ISO.
//!
//! ```text
//! PID 1: mounts ─> kernel settings ─> udev ─> modules ─> md (read-only) ─> starts itself again ─> waits, for ever
//!                                                                               │ (reaps what is orphaned)
//! the agent: `start` returns; consoles, network, screens, session; `end`  <─────┘
//! ```
//! The agent proper is a child of PID 1, the same program. So every orphan of the system (daemons of udev, DHCP
//! clients) becomes a child of PID 1, which waits for anything and owns no child but the agent, while a wait of
//! `std::process` in the agent never loses its child to somebody else. And an agent that dies (a defect, no memory) is
//! no kernel panic: the error is shown, it is started again, and after a few times a shell is offered.
//!
//! Nothing here writes to the machine's disks: arrays are assembled read-only, rules of udev that would assemble,
//! activate or tune are masked, nothing is mounted, no swap is used.

mod consoles;
mod devices;
mod mounts;
mod supervise;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

pub use consoles::consoles;
use rustix::system::{RebootCommand, reboot};

use crate::config::Post;

/// Set in the environment of the agent that PID 1 started.
const MARK: &str = "P2V_INIT";
/// Where the words of a panic are left for PID 1.
const PANIC_FILE: &str = "/run/p2v/panic";
/// Where everything of ours at run time is.
const RUN: &str = "/run/p2v";

/// What every program of this system is started with.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("TERM", "linux"),
    // mdadm: firmware RAID of a controller that says nothing of itself, or sits in a virtual machine.
    ("IMSM_NO_PLATFORM", "1"),
    ("LC_ALL", "C.UTF-8"),
];

/// The first thing the program does. As PID 1: prepares the system, starts the program again as the agent, and does
/// not return. As that agent: makes panics known to PID 1, and returns. Else: nothing.
pub fn start() {
    if rustix::process::getpid().as_raw_nonzero().get() == 1 {
        prepare();
        supervise::forever();
    }
    if is_under_init() {
        keep_panics();
    }
}

/// Whether this is the agent that our PID 1 started: the machine is ours to switch off.
pub fn is_under_init() -> bool {
    std::env::var_os(MARK).is_some()
        && rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == 1)
}

/// Does what is wished in the end. Returns for [`Post::Stay`], when that fails, and when this machine is not ours to
/// switch off (see [`is_under_init`]); a shell runs on every console until the machine is switched off from there.
/// The screens must be stopped before.
pub fn end(post: Post) {
    if !is_under_init() {
        return;
    }
    match post {
        Post::Stay => {}
        Post::Poweroff => switch_off(RebootCommand::PowerOff),
        Post::Reboot => switch_off(RebootCommand::Restart),
        Post::Shell => loop {
            supervise::shells("The agent is through. `poweroff -f` and `reboot -f` end this.");
        },
    }
}

fn switch_off(how: RebootCommand) {
    rustix::fs::sync();
    if let Err(error) = reboot(how) {
        tracing::error!("switching off: {error}");
    }
}

/// Everything before the agent. What fails is said, and the rest is done: a machine without udev still has disks.
fn prepare() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut problems = mounts::mount_all();
    let words = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let debug = has_debug_word(&words);
    problems.extend(settings(debug).err());
    problems.extend(devices::start_udev());
    problems.extend(devices::load_modules());
    problems.extend(devices::assemble_arrays());
    for problem in problems {
        consoles::say_everywhere(&format!("p2v-agent: {problem}"));
    }
}

/// `p2v.debug`, alone or `=1`.
fn has_debug_word(words: &str) -> bool {
    words
        .split_whitespace()
        .any(|word| word == "p2v.debug" || word == "p2v.debug=1")
}

fn settings(debug: bool) -> Result<(), String> {
    let write = |path: &str, text: &str| {
        fs::write(path, text).map_err(|error| format!("writing {path}: {error}"))
    };
    // 0: the keys raise a signal at PID 1, which has no handler; not a reset in the middle of a job.
    let keys = write("/proc/sys/kernel/ctrl-alt-del", "0");
    // Emergencies only: all else is in dmesg, not across the screens.
    let log = if debug {
        Ok(())
    } else {
        write("/proc/sys/kernel/printk", "1")
    };
    let serial = fs::read_to_string("/sys/class/dmi/id/product_serial").unwrap_or_default();
    let name = rustix::system::sethostname(host_name(&serial).as_bytes())
        .map_err(|error| format!("setting the host name: {error}"));
    keys.and(log).and(name)
}

/// A host name (RFC 1123, section 2.1) of the machine's serial number, which may be any text.
fn host_name(serial: &str) -> String {
    const MAX: usize = 40;
    let name: String = serial
        .trim()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(MAX)
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() {
        return "p2v".to_owned();
    }
    format!("p2v-{name}")
}

/// A program with our environment instead of what the boot loader's words left in it.
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(ENVIRONMENT);
    command
}

/// The agent: this program with the same words.
fn agent_command() -> Command {
    let mut agent = command(Path::new("/proc/self/exe"));
    agent.args(std::env::args_os().skip(1).collect::<Vec<OsString>>());
    agent.env(MARK, "1");
    for kept in ["RUST_LOG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(kept) {
            agent.env(kept, value);
        }
    }
    agent
}

/// Panics go to the log and to PID 1 instead of across the screens.
fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        tracing::error!("{text}");
        // Nothing more can be done.
        let _ = fs::write(PANIC_FILE, text);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_is_one_whatever_the_serial_is() {
        for (serial, name) in [
            ("7XK2P52\n", "p2v-7xk2p52"),
            ("VMware-42 1f/ü", "p2v-vmware-42-1f"),
            ("To be filled by O.E.M.", "p2v-to-be-filled-by-o-e-m"),
            ("", "p2v"),
            ("---", "p2v"),
        ] {
            assert_eq!(host_name(serial), name);
        }
        assert!(host_name(&"x".repeat(500)).len() < 64);
    }

    #[test]
    fn debug_is_a_word_of_its_own() {
        assert!(has_debug_word("quiet p2v.debug console=ttyS0"));
        assert!(has_debug_word("p2v.debug=1"));
        assert!(!has_debug_word("p2v.debugger p2v.debug=0 xp2v.debug"));
    }

    #[test]
    fn outside_of_our_system_nothing_happens() {
        assert!(!is_under_init());
        start();
        for post in [Post::Stay, Post::Poweroff, Post::Reboot, Post::Shell] {
            end(post);
        }
    }
}
