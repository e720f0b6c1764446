//! The one place where the core meets inventory/, net/, ui/ and init/.
//!
//! MERGE: until those are here, each function has a small answer of its own; each is to become the one call that its
//! comment names.

use wire::inventory::{Cpu, Inventory};

use crate::app::{Handle, NetworkView};
use crate::config::{InterfaceConfig, Post};

/// MERGE: `inventory::detect(&inventory::Paths::default())`.
pub(crate) fn detect() -> Inventory {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    let mac = std::fs::read("/etc/machine-id").unwrap_or_default();
    Inventory {
        machine_id: blake3::hash(&mac).as_bytes().to_vec(),
        cpu: Some(Cpu {
            logical: u32::try_from(logical).unwrap_or(u32::MAX),
            ..Cpu::default()
        }),
        memory_bytes: kib
            .unwrap_or(0)
            .saturating_mul(1024)
            .next_multiple_of(128 << 20),
        kernel_release: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Inventory::default()
    }
}

/// MERGE: `net::configure(interfaces)`, its error as one line.
pub(crate) fn configure(interfaces: &[InterfaceConfig]) -> Result<(), String> {
    if interfaces.is_empty() {
        Ok(())
    } else {
        Err("this build leaves the network as it is".to_owned())
    }
}

/// MERGE: `net::view()`.
pub(crate) fn network() -> NetworkView {
    NetworkView::default()
}

/// MERGE: `init::start()`.
pub(crate) fn init_start() -> Result<(), String> {
    Ok(())
}

/// MERGE: `init::end(post)`; does not come back as PID 1 unless for a shell.
pub(crate) fn init_end(post: Post) {
    use rustix::system::{RebootCommand, reboot};
    rustix::fs::sync();
    let _ = match post {
        Post::Poweroff => reboot(RebootCommand::PowerOff),
        Post::Reboot => reboot(RebootCommand::Restart),
        Post::Stay | Post::Shell => Ok(()),
    };
}

/// MERGE: `ui::run(handle, consoles)`. Returns once the screens are started; they end with the handle's view.
pub(crate) fn screens(handle: Handle) {
    tokio::spawn(async move {
        let mut view = handle.view.clone();
        while view.changed().await.is_ok() {}
        // Commands can be given for as long as somebody looks.
        drop(handle);
    });
}
