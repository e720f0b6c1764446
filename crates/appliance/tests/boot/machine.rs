//! A running appliance on raw disk files, which qemu-storage-daemon serves.

use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use appliance::{Appliance, LaunchOptions, find_image, settle_accel};
use types::CancelToken;

use crate::disks::Disk;

/// The appliance and what serves its disks.
pub(crate) struct Machine {
    // Dropped first.
    pub(crate) appliance: Appliance,
    _daemon: Daemon,
}

impl Machine {
    /// Discards what is free on a device: how many bytes, and says how long it took.
    pub(crate) fn trim(&mut self, device: &str) -> u64 {
        let began = Instant::now();
        let discarded = self.appliance.trim(device, true, &[], &say).unwrap();
        say(&format!(
            "{discarded} bytes discarded in {} ms",
            began.elapsed().as_millis()
        ));
        discarded
    }
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// True when an appliance can be started here. Says loudly when not, and fails in CI.
pub(crate) fn available() -> bool {
    let missing = match find_image() {
        Err(error) => Some(error.to_string()),
        Ok(_) => ["qemu-system-x86_64", "qemu-storage-daemon", "qemu-img"]
            .into_iter()
            .find(|program| Command::new(program).arg("--version").output().is_err())
            .map(|program| format!("{program} is not installed")),
    };
    let Some(missing) = missing else { return true };
    testkit::skip(&missing);
    false
}

/// Starts the appliance on these disks.
pub(crate) fn launch(dir: &Path, disks: &[&Disk]) -> Machine {
    let scratch = dir.join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let mut command = Command::new("qemu-storage-daemon");
    command
        .current_dir(&scratch)
        .args(["--nbd-server", "addr.type=unix,addr.path=nbd.sock"]);
    let mut exports = Vec::new();
    for (index, disk) in disks.iter().enumerate() {
        let path = disk.path.display();
        command.arg("--blockdev").arg(format!(
            "file,node-name=f{index},filename={path},discard=unmap"
        ));
        command.arg("--blockdev").arg(format!(
            "raw,node-name=r{index},file=f{index},discard=unmap"
        ));
        command.arg("--export").arg(format!(
            "nbd,id=e{index},node-name=r{index},name=disk{index},writable=on"
        ));
        exports.push(format!("disk{index}"));
    }
    let daemon = Daemon(command.spawn().unwrap());
    let socket = scratch.join("nbd.sock");
    let since = Instant::now();
    while !socket.exists() {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "qemu-storage-daemon did not start"
        );
        thread::sleep(Duration::from_millis(5));
    }
    let (image, cancel) = (find_image().unwrap(), CancelToken::new());
    let accel = settle_accel(&image, &cancel, &say).unwrap();
    let options = LaunchOptions::new(accel, scratch, socket, exports);
    let appliance = Appliance::launch(&image, &options, &cancel).unwrap();
    say(&format!(
        "hello after {} ms under {}",
        appliance.hello_ms(),
        appliance.accel().word()
    ));
    Machine {
        appliance,
        _daemon: daemon,
    }
}

/// Into the output of a test that fails, or with --nocapture.
pub(crate) fn say(line: &str) {
    println!("{line}");
}
