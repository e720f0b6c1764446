use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{images, ok, ours, qemu_img, refused};

#[test]
fn images_are_made_and_resized() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    let size = |file: &str, format: &str| {
        let info = qemu_img(dir, &["info", "-f", format, "--output=json", file]).json();
        info["virtual-size"].as_u64().unwrap()
    };
    ok(dir, &["create", "-f", "qcow2", "a", "1.5G"]);
    assert_eq!(size("a", "qcow2"), 3 << 29);
    ok(dir, &["resize", "a", "+512M"]);
    assert_eq!(size("a", "qcow2"), 2 << 30);
    assert_eq!(qemu_img(dir, &["check", "-q", "a"]).status, 0);
    refused(dir, &["resize", "a", "-1G"], 1, "raw");
    ok(dir, &["create", "b", "1000"]);
    assert_eq!(std::fs::metadata(dir.join("b")).unwrap().len(), 1024);
    ok(dir, &["resize", "-q", "b", "10k"]);
    refused(dir, &["resize", "b", "-5k"], 1, "--shrink");
    ok(dir, &["resize", "--shrink", "b", "-5k"]);
    assert_eq!(std::fs::metadata(dir.join("b")).unwrap().len(), 5 << 10);
    refused(dir, &["create", "b", "1G"], 1, "exists already");
    refused(dir, &["create", "c"], 1, "expected a size");
    refused(dir, &["resize", "stream.vmdk", "+1G"], 1, "vmdk");
    assert_eq!(ours(dir, &["create", "c", "12Q"]).status, 2);
    assert!(!dir.join("c").exists());
}

#[test]
fn an_image_that_a_machine_writes_is_left_alone() {
    let Some(dir) = images() else { return };
    if !testkit::require_tool("qemu-nbd") {
        return;
    }
    let dir = dir.path();
    let socket = dir.join("s");
    let mut server = Command::new("qemu-nbd")
        .args(["-t", "-f", "qcow2", "-k"])
        .arg(&socket)
        .arg(dir.join("disk.qcow2"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !socket.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let refused_at = ours(dir, &["convert", "disk.qcow2", "out"]);
    let shared = ours(dir, &["info", "-U", "disk.qcow2"]);
    let resized = ours(dir, &["resize", "disk.qcow2", "+1M"]);
    let over = ours(
        dir,
        &["convert", "-n", "-O", "raw", "disk.raw", "disk.qcow2"],
    );
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(shared.status, 0, "{}", shared.stderr);
    assert!(resized.stderr.contains("in use"), "{}", resized.stderr);
    assert!(over.stderr.contains("in use"), "{}", over.stderr);
    assert!(
        refused_at.stderr.contains("a running machine writes"),
        "{}",
        refused_at.stderr
    );
}
