//! What the stories of P2V share: a converter server, agents, and how their results are compared.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
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

/// The guests at both places are the same: each file of their root file systems with its content, kind, owner and mode.
/// Images of two conversions are never equal byte for byte, since each mounts and writes the file systems at its own time.
pub fn assert_same_guest(a: &Path, b: &Path, root: u64) -> Result<()> {
    let (a, b) = (manifest(a, root)?, manifest(b, root)?);
    ensure!(a.len() > 1000, "{} files were found", a.len());
    for (left, right) in a.iter().zip(&b) {
        ensure!(left == right, "{left} became {right}");
    }
    ensure!(a.len() == b.len(), "{} files and {}", a.len(), b.len());
    Ok(())
}

/// One line for each file in the ext4 file system at byte `root` of an image, sorted by name. Needs root, for owners.
fn manifest(image: &Path, root: u64) -> Result<Vec<String>> {
    let folder = folder()?;
    let raw = folder.path().join("raw");
    cmd::output(
        cmd::command("qemu-img", ["convert", "-O", "raw"])
            .arg(image)
            .arg(&raw),
    )?;
    let source = format!("{}?offset={root}", raw.display());
    let checked = Command::new("e2fsck")
        .args(["-fn", &source])
        .output()
        .context("starting e2fsck")?;
    ensure!(
        checked.status.success(),
        "e2fsck of {}: {}",
        image.display(),
        String::from_utf8_lossy(&checked.stdout)
    );
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).context("making a folder")?;
    let dump = format!("rdump / {}", tree.display());
    cmd::output(&mut cmd::command("debugfs", ["-R", &dump, &source]))?;
    // Contents by hash; links by target; the clock's traces are left out.
    let script = "cd \"$1\" && { find . -type f -print0 | sort -z | xargs -0 sha256sum; \
                  find . -printf '%P %y %m %U %G %l\\n' | sort; }";
    let lines = cmd::output(cmd::command("sh", ["-ec", script, "sh"]).arg(&tree))?;
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
