//! PID 1 after the start: waits for whatever ends, starts the agent again, offers shells when that does not help.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};

use super::consoles::{consoles, say_everywhere};
use super::{ENVIRONMENT, PANIC_FILE, agent_command};
use crate::ui::rescue_shell;

/// How often the agent is started again after it died, before shells are offered.
const RESTARTS: u32 = 3;
/// An agent that ran so long did not die of its start: the count begins anew.
const STEADY: Duration = Duration::from_secs(600);
/// So that the error can be read.
const PAUSE: Duration = Duration::from_secs(10);
/// While no console can be opened.
const NO_CONSOLE: Duration = Duration::from_secs(5);

/// Runs the agent for ever.
pub(super) fn forever() -> ! {
    let mut deaths = 0;
    loop {
        let since = Instant::now();
        let end = run_to_end(agent_command());
        let panic = fs::read_to_string(PANIC_FILE).unwrap_or_default();
        let _ = fs::remove_file(PANIC_FILE);
        let error = format!("p2v-agent ended: {end}\n{panic}");
        if since.elapsed() > STEADY {
            deaths = 0;
        }
        deaths += 1;
        if deaths <= RESTARTS && end != "exit 0" {
            let pause = PAUSE.as_secs();
            say_everywhere(&format!("{error}\nIt is started again in {pause} s."));
            std::thread::sleep(PAUSE);
        } else {
            deaths = 0;
            shells(&format!("{error}\n`exit` starts it again."));
        }
    }
}

/// Runs a program, reaping whatever else ends meanwhile; says how it ended.
fn run_to_end(mut command: Command) -> String {
    match command.spawn() {
        // The handle is not needed: dropping it neither ends the child nor waits for it.
        Ok(child) => match i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            Some(pid) => describe(wait_for(&[pid]).1),
            None => "no process number".to_owned(),
        },
        Err(error) => format!("it could not be started: {error}"),
    }
}

/// Waits until one of `wanted` ends. Everything else that ends was orphaned and is nobody's but ours.
fn wait_for(wanted: &[Pid]) -> (Option<Pid>, Option<WaitStatus>) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if wanted.contains(&pid) => return (Some(pid), Some(status)),
            // An orphan.
            Ok(_) | Err(Errno::INTR) => {}
            // No children at all: it was reaped already.
            Err(_) => return (None, None),
        }
    }
}

fn describe(status: Option<WaitStatus>) -> String {
    let Some(status) = status else {
        return "how is not known".to_owned();
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "how is not known".to_owned(),
    }
}

/// A shell on every console, under these words, until one of them ends; ends the others.
///
/// In the agent (after the job) this waits only for its own shells: PID 1 reaps the rest.
pub(super) fn shells(words: &str) {
    let mut pids = Vec::new();
    for console in consoles() {
        let started = rescue_shell(&console, words).and_then(|mut shell| {
            shell.envs(ENVIRONMENT).env("TERM", console.kind.term());
            shell.spawn()
        });
        match started {
            Ok(child) => pids.extend(i32::try_from(child.id()).ok().and_then(Pid::from_raw)),
            Err(error) => say_everywhere(&format!("{}: {error}", console.path.display())),
        }
    }
    if pids.is_empty() {
        say_everywhere(words);
        std::thread::sleep(NO_CONSOLE);
        return;
    }
    let (ended, _) = wait_for(&pids);
    for pid in pids.into_iter().filter(|pid| Some(*pid) != ended) {
        // It may end at the same moment.
        let _ = kill_process(pid, Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set for the copy of this test that runs as PID 1 of a namespace.
    const INSIDE: &str = "P2V_TEST_PID_1";

    #[test]
    fn orphans_are_reaped_and_the_childs_own_waits_are_left_alone() {
        if !testkit::require_root() || !testkit::require_tool("unshare") {
            return;
        }
        let output = Command::new("unshare")
            .args(["--fork", "--pid", "--mount-proc", "--kill-child"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--include-ignored"])
            .arg("init::supervise::tests::inside")
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        if String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
            testkit::skip("no PID namespaces here");
            return;
        }
        assert!(output.status.success(), "{said}\n{output:?}");
        assert!(said.contains("ran as PID 1"), "{said}");
    }

    #[test]
    #[ignore = "run by the test above as PID 1"]
    fn inside() {
        if std::env::var_os(INSIDE).is_none() {
            return;
        }
        assert_eq!(rustix::process::getpid().as_raw_nonzero().get(), 1);
        // Forty orphans that end before and after the child, which waits for children of its own.
        let script = "n=0; while [ $n -lt 40 ]; do n=$((n+1)); (sleep 0.$((n % 10)) &) ; done; \
            sleep 0.3; sh -c 'exit 5'; test $? = 5 || exit 1; sleep 1; exit 7";
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        assert_eq!(run_to_end(command), "exit 7");
        let zombies = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
            .filter(|stat| stat.contains(") Z "))
            .count();
        assert_eq!(zombies, 0);
        let mut killed = Command::new("sh");
        killed.args(["-c", "kill -9 $$"]);
        assert_eq!(run_to_end(killed), "signal 9");
        let end = run_to_end(Command::new("/nowhere"));
        assert!(end.contains("could not be started"), "{end}");
        println!("ran as PID 1");
    }
}
