//! A running QEMU: its serial console as text, what it answers, and its end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cmd::tail;

/// Lines of the console that an error repeats.
const TAIL_LINES: usize = 25;
const POLL: Duration = Duration::from_millis(50);
/// A forwarded connection that is accepted but not answered within this time is tried again.
const BANNER_PATIENCE: Duration = Duration::from_secs(5);

/// A machine that runs until it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    console: Arc<Mutex<Vec<u8>>>,
    errors: Arc<Mutex<Vec<u8>>>,
    started: Instant,
    ssh_port: Option<u16>,
    /// Text before this place of the console is not looked at any more: it was there before the last `send`.
    from: usize,
    _scratch: TempDir,
}

impl Running {
    pub(crate) fn spawn(mut cmd: Command, ssh_port: Option<u16>, scratch: TempDir) -> Result<Self> {
        let mut child = cmd
            .spawn()
            .context("starting qemu-system-x86_64 (package qemu-system-x86)")?;
        let console = Arc::default();
        let errors = Arc::default();
        collect(child.stdout.take(), &console);
        collect(child.stderr.take(), &errors);
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            stdin,
            console,
            errors,
            started: Instant::now(),
            ssh_port,
            from: 0,
            _scratch: scratch,
        })
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Process id of QEMU.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Local port that leads to port 22 of the guest.
    pub fn ssh_port(&self) -> Option<u16> {
        self.ssh_port
    }

    /// The whole serial console so far.
    pub fn transcript(&self) -> String {
        let bytes = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What the console showed after its first `from` bytes.
    pub(crate) fn console_from(&self, from: usize) -> Vec<u8> {
        let bytes = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.get(from..).unwrap_or_default().to_vec()
    }

    /// Waits until the machine has powered itself off; returns the time since its start.
    pub fn wait_off(&mut self, timeout: Duration) -> Result<Duration> {
        let deadline = Instant::now() + timeout;
        while self.child.try_wait().context("looking at QEMU")?.is_none() {
            if Instant::now() >= deadline {
                bail!(
                    "the machine is not off after {timeout:?}; its console:\n{}",
                    self.last_lines()
                );
            }
            thread::sleep(POLL);
        }
        Ok(self.elapsed())
    }

    /// Waits until `text` stands on the console; returns the time since the start of the machine.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<Duration> {
        self.wait_for_any(&[text], timeout)?;
        Ok(self.elapsed())
    }

    /// Waits until one of `texts` stands on the console (after the last `send`); returns which.
    pub fn wait_for_any(&mut self, texts: &[&str], timeout: Duration) -> Result<usize> {
        let deadline = Instant::now() + timeout;
        loop {
            // Whether it has ended is asked first, so that its last words are searched.
            let ended = self.child.try_wait().context("looking at QEMU")?;
            if ended.is_some() {
                thread::sleep(POLL);
            }
            if let Some(found) = self.find(texts) {
                return Ok(found);
            }
            if let Some(status) = ended {
                let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                let errors = String::from_utf8_lossy(&errors).into_owned();
                bail!(
                    "QEMU ended ({status}) before {texts:?} was seen: {}\n{}",
                    tail(&errors, TAIL_LINES),
                    self.last_lines()
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "{texts:?} not seen on the console within {timeout:?}; its last lines:\n{}",
                    self.last_lines()
                );
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for the login prompt of a getty.
    pub fn wait_login(&mut self, timeout: Duration) -> Result<Duration> {
        match self.wait_for_any(&[" login: ", "(initramfs)", "Kernel panic"], timeout)? {
            0 => Ok(self.elapsed()),
            _ => bail!(
                "the guest did not reach its login prompt; the last lines of its console:\n{}",
                self.last_lines()
            ),
        }
    }

    /// The same where the guest may ask for the passphrase of an encrypted volume first, which is typed each time.
    pub fn wait_unlocked_login(
        &mut self,
        passphrase: Option<&str>,
        timeout: Duration,
    ) -> Result<Duration> {
        // initramfs-tools' cryptroot, systemd's password agent, dracut without systemd; then what no login follows.
        let asking = ["lease unlock disk", "nter passphrase for", "Password ("];
        let lost = [
            "(initramfs)",
            "Kernel panic",
            "Entering emergency mode",
            "dracut:/#",
        ];
        let texts = [&[" login: "], &asking[..], &lost[..]].concat();
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let seen = self.wait_for_any(&texts, left)?;
            match passphrase {
                _ if seen == 0 => return Ok(self.elapsed()),
                Some(passphrase) if seen <= asking.len() => {
                    // The prompt comes before the agent has turned off the echo and reads.
                    thread::sleep(Duration::from_secs(1));
                    self.send(&format!("{passphrase}\r"))?;
                }
                _ => bail!(
                    "the guest did not reach its login prompt; the last lines of its console:\n{}",
                    self.last_lines()
                ),
            }
        }
    }

    /// Types `text` on the console; later waits look only at what comes after it.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.from = self
            .console
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        let stdin = self.stdin.as_mut().context("the console has no input")?;
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.flush())
            .context("typing on the console")
    }

    /// Logs in as root at the prompt that [`Running::wait_login`] saw.
    pub fn login(&mut self, password: &str, timeout: Duration) -> Result<()> {
        self.send("root\r")?;
        self.wait_for("assword:", timeout)?;
        self.send(&format!("{password}\r"))?;
        self.wait_for("# ", timeout)?;
        Ok(())
    }

    /// Runs `line` in the shell that [`Running::login`] opened and returns what it printed.
    pub fn shell(&mut self, line: &str, timeout: Duration) -> Result<String> {
        // The echo of the typed line shows the marks with the quotes in them, so only the printed ones match.
        self.send(&format!(
            "echo V2V-''BEGIN; {{ {line}\n}}; echo V2V-''END=$?.\r"
        ))?;
        let deadline = Instant::now() + timeout;
        loop {
            if let Some((printed, code)) = printed(&self.transcript_from()) {
                if code == "0" {
                    return Ok(printed);
                }
                bail!("`{line}` in the guest ended with {code}: {printed}");
            }
            if Instant::now() >= deadline {
                bail!(
                    "`{line}` in the guest did not end within {timeout:?}:\n{}",
                    self.last_lines()
                );
            }
            thread::sleep(POLL);
        }
    }

    /// Connects to port 22 of the guest's static address until it greets, and returns the greeting.
    pub fn ssh_banner(&mut self, timeout: Duration) -> Result<String> {
        let port = self
            .ssh_port
            .context("the machine has no network: call net() before start()")?;
        let deadline = Instant::now() + timeout;
        let mut last = "no answer".to_owned();
        while Instant::now() < deadline {
            match banner(port) {
                Ok(line) if line.starts_with("SSH-") => return Ok(line),
                Ok(line) => last = format!("answered {line:?}"),
                Err(err) => last = err.to_string(),
            }
            if let Some(status) = self.child.try_wait().context("looking at QEMU")? {
                bail!(
                    "QEMU ended ({status}) before SSH answered:\n{}",
                    self.last_lines()
                );
            }
            thread::sleep(Duration::from_millis(250));
        }
        bail!(
            "no SSH banner at the guest's static address within {timeout:?} ({last}); its console:\n{}",
            self.last_lines()
        )
    }

    /// Ends QEMU now.
    pub fn kill(&mut self) {
        // It may have ended by itself; nothing to be done about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn transcript_from(&self) -> String {
        let bytes = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes[self.from.min(bytes.len())..]).into_owned()
    }

    fn find(&self, texts: &[&str]) -> Option<usize> {
        let seen = self.transcript_from();
        texts.iter().position(|text| seen.contains(text))
    }

    fn last_lines(&self) -> String {
        tail(&self.transcript(), TAIL_LINES)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What stands between the marks of [`Running::shell`], and the exit code that follows them.
fn printed(console: &str) -> Option<(String, String)> {
    let (_, rest) = console.split_once("V2V-BEGIN")?;
    let (body, rest) = rest.split_once("V2V-END=")?;
    let (code, _) = rest.split_once('.')?;
    Some((body.replace('\r', "").trim().to_owned(), code.to_owned()))
}

/// Reads `from` to its end in a thread.
fn collect(from: Option<impl Read + Send + 'static>, into: &Arc<Mutex<Vec<u8>>>) {
    let Some(mut from) = from else { return };
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut block = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut block) {
            into.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&block[..read]);
        }
    });
}

fn banner(port: u16) -> std::io::Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, BANNER_PATIENCE)?;
    stream.set_read_timeout(Some(BANNER_PATIENCE))?;
    let mut line = Vec::new();
    let mut byte = [0];
    // RFC 4253 section 4.2: the identification string has at most 255 characters.
    while line.len() < 255 && stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn shell(script: &str) -> Running {
        let mut cmd = Command::new("sh");
        cmd.args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::spawn(cmd, None, tempfile::tempdir().unwrap()).unwrap()
    }

    const SHORT: Duration = Duration::from_secs(10);

    #[test]
    fn only_what_comes_after_the_last_send_counts() {
        let mut run = shell("echo ready; read line; echo got $line; sleep 60");
        run.wait_for("ready", SHORT).unwrap();
        run.send("ping\n").unwrap();
        assert!(run.wait_for("ready", Duration::from_millis(200)).is_err());
        assert_eq!(
            run.wait_for_any(&["nothing", "got ping"], SHORT).unwrap(),
            1
        );
        assert!(run.transcript().starts_with("ready\n"));
    }

    #[test]
    fn an_initramfs_shell_is_no_login_and_an_early_end_is_reported() {
        let err = shell("echo '(initramfs) '; sleep 60")
            .wait_login(SHORT)
            .unwrap_err();
        assert!(
            err.to_string().contains("did not reach its login prompt"),
            "{err}"
        );
        let err = shell("echo no such disk >&2; exit 1")
            .wait_login(SHORT)
            .unwrap_err();
        assert!(err.to_string().contains("no such disk"), "{err}");
    }

    #[test]
    fn a_line_for_the_guests_shell_returns_what_it_printed() {
        // What a terminal shows: first the echo of what was typed, then the output.
        let echo = "# echo V2V-''BEGIN; { id\r\n}; echo V2V-''END=$?.\r\n";
        assert_eq!(printed(echo), None);
        let whole = format!("{echo}V2V-BEGIN\r\nuid=0\r\nV2V-END=3.\r\n# ");
        assert_eq!(printed(&whole), Some(("uid=0".to_owned(), "3".to_owned())));
    }

    #[test]
    fn dropping_ends_the_program() {
        let run = shell("sleep 60");
        let process = std::path::PathBuf::from(format!("/proc/{}", run.pid()));
        assert!(process.exists());
        drop(run);
        assert!(!process.exists());
    }
}
