//! What the stories of P2V share: a converter server, agents, and how their results are compared.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testkit::Running;
use testkit::boot::Boot;
use testkit::cmd;
use testkit::guest::SampleGuest;
use testkit::net::ChaosProxy;
use testkit::physical::{HOST, RunningMachine};
use testkit::server::{ConverterServer, TokenWish};

/// From hello to done, on two cores that other tests use too.
pub const JOB: Duration = Duration::from_secs(420);
/// Until an agent is there, or a state of the server is seen.
pub const SOON: Duration = Duration::from_secs(120);
/// From the power button to the agent's hello, under TCG.
pub const ISO_BOOT: Duration = Duration::from_secs(480);
/// To the login prompt of a converted guest, under TCG.
pub const LOGIN: Duration = Duration::from_secs(400);

/// A folder for a server's state and guests, on the disk that has room.
pub fn folder() -> Result<TempDir> {
    tempfile::tempdir_in(testkit::target_dir()).context("making a folder")
}

/// Where the first disk of a converted guest is.
pub fn image(server: &ConverterServer, name: &str) -> PathBuf {
    server.out().join(format!("{name}-sda"))
}

/// Where the domain of a converted guest is.
pub fn domain(server: &ConverterServer, name: &str) -> PathBuf {
    server.out().join(format!("{name}.xml"))
}

/// Bytes of a sparse file that are not holes.
pub fn used_bytes(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    Ok(metadata.blocks() * 512)
}

/// A number of the job's progress.
pub fn progress(detail: &Value, field: &str) -> Result<u64> {
    let number = detail["job"]["progress"][field].as_u64();
    number.with_context(|| format!("the job's progress has no {field}: {}", detail["job"]))
}

/// The proof is there and covers every byte that was received.
pub fn assert_proved(detail: &Value) -> Result<()> {
    let proof = detail["proof"].as_array().context("no proof")?;
    ensure!(!proof.is_empty(), "the proof is empty: {}", detail["job"]);
    let mut covered = 0;
    for range in proof {
        let root = range["root"].as_str().unwrap_or_default();
        ensure!(
            root.len() == 64 && root.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{range}"
        );
        covered += range["covered_bytes"].as_u64().unwrap_or(0);
    }
    let received = progress(detail, "received_bytes")? + progress(detail, "same_bytes")?;
    ensure!(
        covered >= received,
        "{received} bytes were received, the proof covers {covered}"
    );
    Ok(())
}

/// A figure for whoever reads the log of the tests.
#[expect(clippy::print_stderr, reason = "figures that README.md repeats")]
pub fn note(text: &str) {
    eprintln!("p2v: {text}");
}

/// What is in a converted image: its bytes, and the files of the ext4 file system that is its root.
///
/// Two conversions of one disk mount and write that file system at different times: superblocks, inodes and journal
/// differ, and an initrd that was written anew may lie elsewhere; no file differs, and nothing before the file system.
#[derive(Debug)]
pub struct Content {
    raw: PathBuf,
    root: u64,
    files: Vec<String>,
    _dir: TempDir,
}

impl Content {
    /// Of the image whose root file system begins at byte `root`. Needs root, for owners.
    pub fn of(image: &Path, root: u64) -> Result<Self> {
        let dir = folder()?;
        let raw = dir.path().join("raw");
        let convert = ["convert", "-O", "raw"];
        cmd::output(cmd::command("qemu-img", convert).arg(image).arg(&raw))?;
        let files = files(&raw, root)?;
        Ok(Self {
            raw,
            root,
            files,
            _dir: dir,
        })
    }

    /// The same guest is in both.
    pub fn assert_same(&self, other: &Self) -> Result<()> {
        ensure!(self.files.len() > 1000, "{} files", self.files.len());
        for (left, right) in self.files.iter().zip(&other.files) {
            ensure!(left == right, "{left} became {right}");
        }
        let counts = (self.files.len(), other.files.len());
        ensure!(counts.0 == counts.1, "{} files and {}", counts.0, counts.1);
        let len = fs::metadata(&self.raw)?.len();
        let lens = (len, fs::metadata(&other.raw)?.len());
        ensure!(lens.0 == lens.1, "{} bytes and {}", lens.0, lens.1);
        // Partition table and boot loader.
        let before = differing_blocks(&self.raw, &other.raw, 0..self.root)?;
        ensure!(before == 0, "{before} blocks before the file system differ");
        // Times, and where a conversion's kernel put the files that it wrote anew: nothing that is promised.
        let inside = differing_blocks(&self.raw, &other.raw, self.root..len)?;
        note(&format!(
            "every file is the same; {inside} blocks of 4 KiB lie elsewhere or hold other times"
        ));
        Ok(())
    }
}

fn differing_blocks(a: &Path, b: &Path, range: Range<u64>) -> Result<usize> {
    let (a, b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut count = 0;
    for offset in range.clone().step_by(1 << 20) {
        let len = usize::try_from(range.end - offset)?.min(1 << 20);
        a.read_exact_at(&mut left[..len], offset)?;
        b.read_exact_at(&mut right[..len], offset)?;
        if left[..len] != right[..len] {
            let blocks = left[..len].chunks(4096).zip(right[..len].chunks(4096));
            count += blocks.filter(|(left, right)| left != right).count();
        }
    }
    Ok(count)
}

/// One line for each file, sorted: content by hash, then kind, mode, owner and target of links. Not the clock's traces.
fn files(raw: &Path, root: u64) -> Result<Vec<String>> {
    let source = format!("{}?offset={root}", raw.display());
    cmd::output(&mut cmd::command("e2fsck", ["-fn", &source]))?;
    let dir = folder()?;
    let dump = format!("rdump / {}", dir.path().display());
    cmd::output(&mut cmd::command("debugfs", ["-R", &dump, &source]))?;
    let script = "cd \"$1\"; find . -type f -print0 | sort -z | xargs -0 sha256sum; \
                  find . -printf '%P %y %m %U %G %l\n' | sort";
    let lines = cmd::output(cmd::command("sh", ["-ec", script, "sh"]).arg(dir.path()))?;
    Ok(lines.lines().map(str::to_owned).collect())
}

/// Byte ranges of the file `path` in the ext4 file system at byte `root` of a raw disk.
pub fn file_blocks(disk: &Path, root: u64, path: &str) -> Result<Vec<u64>> {
    let source = format!("{}?offset={root}", disk.display());
    let ask = format!("blocks {path}");
    let told = cmd::output(&mut cmd::command("debugfs", ["-R", &ask, &source]))?;
    let blocks: Vec<u64> = told
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    ensure!(!blocks.is_empty(), "{path} has no blocks: {told}");
    // mke2fs gives file systems of this size blocks of 4 KiB.
    Ok(blocks.iter().map(|block| root + block * 4096).collect())
}

/// A machine that boots our ISO, and the server that it is to find.
#[derive(Debug)]
pub struct IsoRig {
    /// State, guests and the customised ISO.
    pub dir: TempDir,
    /// The server.
    pub server: ConverterServer,
    /// What stands between them and counts.
    pub proxy: ChaosProxy,
    /// The customised ISO.
    pub iso: PathBuf,
    /// Its join string.
    pub join: String,
}

impl IsoRig {
    /// Starts a server and embeds in an ISO how it is found; with `kargs`, machines ask nobody.
    pub fn new(args: &[&str], kargs: Option<&str>) -> Result<Self> {
        let dir = folder()?;
        let server = ConverterServer::start(dir.path(), args)?;
        let proxy = ChaosProxy::start(server.address())?;
        let join = server.token(&TokenWish {
            server: Some(&format!("{HOST}:{}", proxy.address().port())),
            ..TokenWish::default()
        })?;
        let iso = dir.path().join("my.iso");
        let original = testkit::p2v_iso()?;
        let before = crate::sha256(&original)?;
        let mut args = vec!["iso".to_owned(), "customize".to_owned()];
        args.extend([crate::arg(&original), "-o".to_owned(), crate::arg(&iso)]);
        if let Some(kargs) = kargs {
            args.extend(["--join", &join, "--auto", "--kargs", kargs].map(str::to_owned));
        }
        crate::ok(args)?;
        ensure!(
            crate::sha256(&original)? == before,
            "the given ISO was changed"
        );
        Ok(Self {
            dir,
            server,
            proxy,
            iso,
            join,
        })
    }

    /// Waits for the machine's job and says how long it took from the power button; a machine that fails shows its
    /// console.
    pub fn wait_job(&self, machine: &mut RunningMachine) -> Result<(u64, Duration)> {
        let id = self.server.wait_jobs(1, ISO_BOOT);
        let id = id.with_context(|| format!("the console:\n{}", last_lines(machine)))?;
        Ok((id, machine.console.elapsed()))
    }

    /// Waits for one of `states`; a machine that fails shows its console.
    pub fn wait_state(
        &self,
        machine: &mut RunningMachine,
        id: u64,
        states: &[&str],
    ) -> Result<Value> {
        let state = self.server.wait_state(id, states, JOB);
        state.with_context(|| format!("the console:\n{}", last_lines(machine)))
    }
}

fn last_lines(machine: &RunningMachine) -> String {
    let text = machine.console.transcript();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// The converted guest boots on virtio, answers SSH at its static address, lets root in; `look` runs there.
pub fn boots_on_virtio(
    guest: &SampleGuest,
    image: &Path,
    domain: &Path,
    look: &str,
) -> Result<String> {
    crate::assert_image_clean(image)?;
    let mac = crate::mac_of(domain)?;
    let mut boot = Boot::new(image, "qcow2")
        .firmware(guest.uefi)
        .net(guest.static_ip, guest.gateway, Some(&mac))
        .start()?;
    looks_well(&mut boot, guest, look)
}

/// The same of a machine that runs already.
pub fn looks_well(boot: &mut Running, guest: &SampleGuest, look: &str) -> Result<String> {
    boot.wait_login(LOGIN)?;
    let banner = boot.ssh_banner(SOON)?;
    ensure!(banner.starts_with("SSH-2.0-"), "{banner}");
    boot.login(guest.root_password, SOON)?;
    boot.shell(look, SOON)
}
