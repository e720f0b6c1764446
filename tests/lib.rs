//! What the scenarios share: running v2v as a user does, and looking at what it left.

pub mod p2v;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The v2v command with the environment of a user; the appliance is found as `cargo xtask test` built it.
pub fn v2v<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Result<Command> {
    let mut command = Command::new(testkit::v2v()?);
    command.args(args);
    Ok(command)
}

/// Runs v2v to its end.
pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Result<Output> {
    v2v(args)?.output().context("starting v2v")
}

/// Runs v2v, which must succeed; returns stdout.
pub fn ok<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Result<String> {
    let output = run(args)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "v2v failed: {stderr}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs v2v, which must fail with exit status 1 and exactly one `v2v: error:` line, the last of stderr; returns it.
pub fn refused<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Result<String> {
    error_line(&run(args)?)
}

/// As [`refused`], before the appliance was started.
pub fn refused_at_once<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Result<String> {
    let output = run(args)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(!stdout.contains("starting the appliance"), "{stdout}");
    error_line(&output)
}

fn error_line(output: &Output) -> Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1),
        "expected exit status 1, found {}: {stderr}",
        output.status
    );
    let errors: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with("v2v: error: "))
        .collect();
    match errors.as_slice() {
        [one] if stderr.lines().last() == Some(one) => Ok((*one).to_owned()),
        _ => bail!("expected one error line at the end, found: {stderr}"),
    }
}

/// Names of everything in `dir`, hidden files included, sorted.
pub fn listing(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Nothing is left in `dir`, hidden files included, but what `allowed` names.
pub fn assert_nothing_left(dir: &Path, allowed: &[&str]) -> Result<()> {
    let mut left = listing(dir)?;
    left.retain(|name| !allowed.contains(&name.as_str()));
    ensure!(left.is_empty(), "left in {}: {left:?}", dir.display());
    Ok(())
}

/// Process ids of QEMUs whose command line names `dir`.
pub fn qemus_using(dir: &Path) -> Result<Vec<u32>> {
    let wanted = dir.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if command.contains("qemu-system") && (command.contains(&wanted) || cwd.starts_with(dir)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// `qemu-img check` finds nothing wrong.
pub fn assert_image_clean(image: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["check", "-q"])
        .arg(image)
        .output()
        .context("starting qemu-img")?;
    ensure!(
        output.status.success(),
        "qemu-img check {}: {}{}",
        image.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The first MAC address in a domain XML.
pub fn mac_of(xml: &Path) -> Result<String> {
    let text = fs::read_to_string(xml).with_context(|| format!("reading {}", xml.display()))?;
    let after = text
        .split("<mac address=")
        .nth(1)
        .context("the domain has no NIC")?;
    Ok(after.chars().skip(1).take(17).collect())
}

/// SHA-256 of a file, by the system's own program.
pub fn sha256(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum")
        .arg(path)
        .output()
        .context("starting sha256sum")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// A path below `dir` as a string argument.
pub fn arg(path: impl Into<PathBuf>) -> String {
    path.into().display().to_string()
}

/// A small OVA whose parts can be damaged one by one.
#[derive(Debug)]
pub struct TinyOva {
    /// Members in the order of the archive: name and content.
    pub members: Vec<(String, Vec<u8>)>,
}

impl TinyOva {
    /// An OVF, a SHA256 manifest and a streamOptimized disk of `mib` MiB that holds a little text.
    pub fn new(dir: &Path, mib: u64) -> Result<Self> {
        let raw = dir.join("tiny.raw");
        let file = fs::File::create(&raw)?;
        file.set_len(mib << 20)?;
        std::os::unix::fs::FileExt::write_all_at(
            &file,
            &b"not an operating system ".repeat(4096),
            64 << 10,
        )?;
        drop(file);
        let vmdk = dir.join("tiny-disk1.vmdk");
        let status = Command::new("qemu-img")
            .args([
                "convert",
                "-q",
                "-O",
                "vmdk",
                "-o",
                "subformat=streamOptimized",
            ])
            .args([&raw, &vmdk])
            .status()?;
        ensure!(status.success(), "qemu-img convert failed");
        let disk = fs::read(&vmdk)?;
        let mut ova = Self {
            members: vec![("tiny.ovf".into(), ovf(mib << 20).into_bytes())],
        };
        ova.members.push(("tiny.mf".into(), Vec::new()));
        ova.members.push(("tiny-disk1.vmdk".into(), disk));
        ova.sign(dir)?;
        Ok(ova)
    }

    /// Makes the manifest true again.
    pub fn sign(&mut self, dir: &Path) -> Result<()> {
        let mut lines = String::new();
        for (name, content) in self
            .members
            .iter()
            .filter(|(name, _)| !name.ends_with(".mf"))
        {
            let scratch = dir.join("to-hash");
            fs::write(&scratch, content)?;
            lines += &format!("SHA256({name})= {}\n", sha256(&scratch)?);
            fs::remove_file(&scratch)?;
        }
        for (_, content) in self
            .members
            .iter_mut()
            .filter(|(name, _)| name.ends_with(".mf"))
        {
            *content = lines.clone().into_bytes();
        }
        Ok(())
    }

    /// The member of this name.
    pub fn member(&mut self, name: &str) -> Result<&mut Vec<u8>> {
        let found = self.members.iter_mut().find(|(member, _)| member == name);
        found
            .map(|(_, content)| content)
            .with_context(|| format!("no member {name}"))
    }

    /// Replaces text in the descriptor.
    pub fn edit_ovf(&mut self, from: &str, to: &str) -> Result<()> {
        let ovf = self.member("tiny.ovf")?;
        let text = String::from_utf8(ovf.clone())?;
        ensure!(text.contains(from), "the descriptor has no {from}");
        *ovf = text.replace(from, to).into_bytes();
        Ok(())
    }

    /// Writes the archive into `dir` and returns its path.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let folder = dir.join("members");
        fs::create_dir_all(&folder)?;
        for (name, content) in &self.members {
            fs::write(folder.join(name), content)?;
        }
        let ova = dir.join("tiny.ova");
        let names = self.members.iter().map(|(name, _)| name);
        let status = Command::new("tar")
            .args(["--format=ustar", "-cf"])
            .arg(&ova)
            .arg("-C")
            .arg(&folder)
            .args(names)
            .status()?;
        ensure!(status.success(), "tar failed");
        fs::remove_dir_all(&folder)?;
        Ok(ova)
    }
}

/// A minimal VMware-like descriptor of one disk and one NIC.
fn ovf(capacity: u64) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
    xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References><File ovf:href="tiny-disk1.vmdk" ovf:id="file1"/></References>
  <DiskSection><Info>disks</Info>
    <Disk ovf:capacity="{capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1"
        ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection><Info>networks</Info><Network ovf:name="VM Network"><Description>n</Description></Network></NetworkSection>
  <VirtualSystem ovf:id="tiny"><Info>a machine</Info><Name>tiny</Name>
    <VirtualHardwareSection><Info>hardware</Info>
      <System><vssd:ElementName>x</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
      <Item><rasd:ElementName>1 CPU</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>512 MB</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>SCSI</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk</rasd:ElementName><rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>7</rasd:AddressOnParent><rasd:Connection>VM Network</rasd:Connection><rasd:ElementName>nic</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#
    )
}

/// Ctrl-C.
pub fn interrupt(child: &std::process::Child) -> Result<()> {
    wait_until_heard(child)?;
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .context("starting kill")?;
    ensure!(status.success(), "kill -INT {} failed", child.id());
    Ok(())
}

/// Waits until the program listens for Ctrl-C: on a loaded host it is long being read from its disk.
fn wait_until_heard(child: &std::process::Child) -> Result<()> {
    /// SIGINT's bit in the masks of /proc/PID/status (proc(5)).
    const SIGINT: u64 = 1 << 1;
    let path = format!("/proc/{}/status", child.id());
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if caught.is_some_and(|mask| mask & SIGINT != 0) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "v2v does not listen for Ctrl-C");
        thread::sleep(Duration::from_millis(20));
    }
}
