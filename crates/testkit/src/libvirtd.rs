//! A libvirt daemon for one test, with a state, processes and a network of its own: see `private-libvirtd.sh`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cmd;
use crate::skips::{require_root, require_tool};

/// Lives until it is dropped, or this process dies; its guests end with it.
#[derive(Debug)]
pub struct Libvirtd {
    uri: String,
    dir: tempfile::TempDir,
    child: Child,
}

impl Libvirtd {
    /// Starts one; skips loudly (`None`) where that cannot be.
    pub fn start() -> Result<Option<Self>> {
        let tools = [
            "libvirtd",
            "virtlogd",
            "virsh",
            "unshare",
            "qemu-system-x86_64",
        ];
        if !require_root() || !tools.iter().all(|tool| require_tool(tool)) {
            return Ok(None);
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/private-libvirtd.sh");
        let dir = tempfile::tempdir().context("creating a folder for libvirtd")?;
        let mut child = Command::new(script)
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting private-libvirtd.sh")?;
        let mut line = String::new();
        if let Some(stdout) = &mut child.stdout {
            BufReader::new(stdout)
                .read_line(&mut line)
                .context("reading from private-libvirtd.sh")?;
        }
        let uri = line
            .trim_end()
            .strip_prefix("ready ")
            .context("the private libvirtd did not start")?
            .to_owned();
        Ok(Some(Self { uri, dir, child }))
    }

    /// Connection URI, good for every process of this host.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Runs virsh on it and returns its output.
    pub fn virsh(&self, args: &[&str]) -> Result<String> {
        cmd::output(Command::new("virsh").args(["-q", "-c", &self.uri]).args(args))
    }

    /// A URI under which the same daemon looks like one of another host: libvirt's protocol through a program
    /// that virsh starts, as it would start ssh.
    pub fn remote_uri(&self) -> Result<String> {
        let bridge = self.dir.path().join("bridge");
        let script = "#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/libvirt && \
                      mount --bind \"$0\" /run/libvirt && exec virt-ssh-helper qemu:///system' ";
        fs::write(
            &bridge,
            format!("{script}{}/run\n", self.dir.path().display()),
        )?;
        fs::set_permissions(&bridge, fs::Permissions::from_mode(0o755))?;
        Ok(format!(
            "qemu+ext://faraway/system?command={}",
            bridge.display()
        ))
    }

    /// Reads the serial console of a running domain until `text` appears; returns everything that was read.
    pub fn wait_on_console(&self, domain: &str, text: &str, timeout: Duration) -> Result<String> {
        // virsh console insists on a terminal; script(1) gives it one.
        let console = format!("virsh -q -c '{}' console --force '{domain}'", self.uri);
        let mut child = Command::new("script")
            .args(["-q", "-c", &console, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting script")?;
        let mut stdout = child.stdout.take().context("no stdout")?;
        let (send, received) = mpsc::channel();
        thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut buf) {
                if send.send(buf[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        let (begun, mut seen) = (Instant::now(), Vec::new());
        let result = loop {
            match received.recv_timeout(Duration::from_millis(200)) {
                Ok(bytes) => seen.extend(bytes),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break Err("the console was closed"),
            }
            if String::from_utf8_lossy(&seen).contains(text) {
                break Ok(());
            }
            if begun.elapsed() > timeout {
                break Err("it did not come in time");
            }
        };
        child.kill().context("ending virsh console")?;
        child.wait()?;
        let seen = String::from_utf8_lossy(&seen).into_owned();
        match result {
            Ok(()) => Ok(seen),
            Err(why) => bail!("waiting for {text:?} on {domain}: {why}; it said: {seen}"),
        }
    }

    /// Starts the network `default`, with a bridge of its own.
    pub fn start_default_network(&self) -> Result<()> {
        self.virsh(&["net-start", "default"])?;
        let list = self.virsh(&["net-list", "--name"])?;
        ensure!(list.contains("default"), "the network did not start: {list}");
        Ok(())
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends because its stdin did; there is nothing more to do if waiting fails.
        let _ = self.child.wait();
    }
}
