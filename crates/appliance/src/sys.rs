//! The one place of this crate with unsafe code: a child that dies with us.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the kernel kill the child with SIGKILL when the thread that spawns it ends, for whatever reason.
///
/// JUSTIFICATION: kill -9 of v2v must leave no QEMU behind, and only the child itself can ask for that, between fork
/// and exec; the standard library has no safe way to run code there.
#[expect(
    unsafe_code,
    reason = "Command::pre_exec is the only way to run prctl in the child"
)]
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec and makes only two system calls, prctl and getppid; it neither
    // allocates nor takes a lock, so it is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The parent may have died before prctl was called.
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::from(io::ErrorKind::BrokenPipe))
            }
        });
    }
}
