//! A libvirt daemon for one test: see `tests/private-libvirtd.sh`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Lives until it is dropped, or this process dies.
#[derive(Debug)]
pub(super) struct Libvirtd {
    pub(super) uri: String,
    dir: tempfile::TempDir,
    child: Child,
}

impl Libvirtd {
    /// Starts one; skips loudly (None) where that cannot be.
    pub(super) fn start() -> Option<Self> {
        let tools = [
            "libvirtd",
            "virtlogd",
            "virsh",
            "unshare",
            "qemu-system-x86_64",
        ];
        if !testkit::require_root() || !tools.iter().all(|tool| testkit::require_tool(tool)) {
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/private-libvirtd.sh");
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(script)
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let uri = line
            .trim_end()
            .strip_prefix("ready ")
            .expect("the private libvirtd did not start")
            .to_owned();
        Some(Self { uri, dir, child })
    }

    /// Runs virsh; its failure fails the test.
    pub(super) fn virsh(&self, args: &[&str]) -> String {
        let output = Command::new("virsh")
            .args(["-q", "-c", &self.uri])
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "virsh {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A URI under which the same daemon looks like one of another host: libvirt's protocol through a program
    /// that virsh starts, as it would start ssh.
    pub(super) fn remote_uri(&self) -> String {
        let bridge = self.dir.path().join("bridge");
        let script = "#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/libvirt && \
                      mount --bind \"$0\" /run/libvirt && exec virt-ssh-helper qemu:///system' ";
        fs::write(
            &bridge,
            format!("{script}{}/run\n", self.dir.path().display()),
        )
        .unwrap();
        fs::set_permissions(&bridge, fs::Permissions::from_mode(0o755)).unwrap();
        format!("qemu+ext://faraway/system?command={}", bridge.display())
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
