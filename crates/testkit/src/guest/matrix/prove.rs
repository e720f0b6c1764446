//! Proves a matrix guest: as it is it boots on what VMware gives and not on virtio; converted it boots on virtio-blk and on
//! virtio-scsi and answers at its address.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::plan::Plan;
use super::{BuiltGuest, Loader};
use crate::boot::{Boot, Bus, Running};
use crate::cmd::{self, tail};
use crate::places;

/// TCG on two cores that others use too.
const LOGIN: Duration = Duration::from_secs(600);
const BANNER: Duration = Duration::from_secs(180);
/// The source's NIC, and so the result's.
const MAC: &str = "00:50:56:9a:2c:10";
/// What a Linux says whose initramfs does not find the root.
const LOST: [&str; 9] = [
    "(initramfs)",
    // systemd waits for the root "no limit"; it says so each second.
    "running (2min ",
    "Timed out waiting for device",
    "still waiting for following initqueue hooks",
    "Entering emergency mode",
    "Press Enter for maintenance",
    "Could not boot",
    "dracut:/#",
    "Kernel panic",
];
/// Lines of v2v's talk that a failure repeats.
const TALK_LINES: usize = 12;

/// The buses on which a converted guest must boot.
pub const BUSES: [Bus; 2] = [Bus::Virtio, Bus::VirtioScsi];

/// How long what took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// The whole conversion.
    pub conversion: Duration,
    /// From the appliance's start until the copy begins.
    pub appliance: Duration,
}

/// What was found of a guest as it is.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// To the login on VMware's hardware.
    pub old_login: Duration,
    /// To its giving up on virtio.
    pub lost_on_virtio: Duration,
}

/// The guest as it is: reaches its login and answers on a PVSCSI disk with a vmxnet3 NIC, and does not find its root on
/// virtio. The disks never change, so what was found once is kept beside them.
pub fn unconverted(built: &BuiltGuest) -> Result<Proof> {
    let kept = built.disks[0].with_file_name("unconverted.json");
    if let Ok(text) = fs::read_to_string(&kept) {
        let value: Value = serde_json::from_str(&text).context("reading what was found before")?;
        let seconds = |key: &str| Duration::from_secs_f64(value[key].as_f64().unwrap_or(0.0));
        return Ok(Proof {
            old_login: seconds("old_login_s"),
            lost_on_virtio: seconds("lost_on_virtio_s"),
        });
    }
    let proof = Proof {
        old_login: on_old_hardware(built).context("unconverted on VMware's hardware")?,
        lost_on_virtio: lost_on_virtio(built).context("unconverted on virtio")?,
    };
    let value = serde_json::json!({
        "old_login_s": proof.old_login.as_secs_f64(),
        "lost_on_virtio_s": proof.lost_on_virtio.as_secs_f64(),
    });
    fs::write(&kept, value.to_string()).context("keeping what was found")?;
    Ok(proof)
}

/// The guest as it is on what VMware gives. Its login time.
pub fn on_old_hardware(built: &BuiltGuest) -> Result<Duration> {
    let scratch = scratch()?;
    let disks = with_boot_entry(built, scratch.path())?;
    // Debian's OVMF does not boot from PVSCSI.
    let bus = match built.guest.uefi {
        true => Bus::Sata,
        false => Bus::Pvscsi,
    };
    let boot = machine(built, &disks, "raw").bus(bus);
    let mut run = boot.vmware_nic().start()?;
    login_and_answer(built, &mut run)
}

/// The guest as it is on virtio, which it must not find its root on.
pub fn lost_on_virtio(built: &BuiltGuest) -> Result<Duration> {
    let scratch = scratch()?;
    let disks = with_boot_entry(built, scratch.path())?;
    let mut run = machine(built, &disks, "raw").bus(Bus::Virtio).start()?;
    let ends = [&LOST[..], &[" login: "]].concat();
    let seen = run.wait_for_any(&ends, LOGIN)?;
    ensure!(
        seen < LOST.len(),
        "it reached its login without being converted"
    );
    Ok(run.elapsed())
}

/// Converts the guest into `out`, by the appliance image in the folder `appliance`, else by the one that v2v finds.
pub fn convert(built: &BuiltGuest, out: &Path, appliance: Option<&Path>) -> Result<Figures> {
    let source = out.join("source.xml");
    fs::write(&source, source_xml(built)).context("writing the source's XML")?;
    let (talk, report) = (out.join("talk.log"), out.join("report.json"));
    let mut v2v = Command::new(places::v2v()?);
    v2v.args(["-i", "libvirtxml"]).arg(&source);
    v2v.args(["-o", "local", "-of", "qcow2", "-os"]).arg(out);
    v2v.arg("--report").arg(&report).arg("--machine-readable");
    if let Some(passphrase) = built.guest.passphrase() {
        v2v.arg("--key").arg(format!("all:key:{passphrase}"));
    }
    if let Some(appliance) = appliance {
        v2v.env("V2V_APPLIANCE", appliance);
    }
    v2v.stdin(Stdio::null()).stdout(Stdio::piped());
    v2v.stderr(File::create(&talk).context("creating the log of v2v")?);
    let begun = Instant::now();
    let mut child = v2v.spawn().context("starting v2v")?;
    let mut figures = Figures::default();
    let mut launched = None;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let event: Value = serde_json::from_str(&line?).unwrap_or_default();
            match event["stage"].as_str() {
                Some("launch") => launched = Some(Instant::now()),
                Some("copy") => {
                    figures.appliance = launched.map_or(Duration::ZERO, |at| at.elapsed())
                }
                _ => {}
            }
        }
    }
    let status = child.wait().context("waiting for v2v")?;
    figures.conversion = begun.elapsed();
    if !status.success() {
        let talk = fs::read_to_string(&talk).unwrap_or_default();
        bail!("v2v ended with {status}:\n{}", tail(&talk, TALK_LINES));
    }
    Ok(figures)
}

/// Boots what [`convert`] left in `out`, on `bus`; the time to its login, after which it must answer at its address.
pub fn boot(built: &BuiltGuest, out: &Path, bus: Bus) -> Result<Duration> {
    boot_until(built, out, bus, |run| login_and_answer(built, run))
}

/// Boots what a conversion left in `out` whose NIC was another machine's; the time to its login.
pub fn reach_login(built: &BuiltGuest, out: &Path, bus: Bus) -> Result<Duration> {
    boot_until(built, out, bus, |run| {
        run.wait_unlocked_login(built.guest.passphrase(), LOGIN)
    })
}

fn boot_until(
    built: &BuiltGuest,
    out: &Path,
    bus: Bus,
    wait: impl Fn(&mut Running) -> Result<Duration>,
) -> Result<Duration> {
    let letters = ["sda", "sdb"];
    let disks: Vec<_> = (letters.iter().zip(&built.disks))
        .map(|(letter, _)| out.join(format!("{}-{letter}", built.guest.name)))
        .collect();
    let once = || {
        let mut run = machine(built, &disks, "qcow2").bus(bus).start()?;
        wait(&mut run)
    };
    match once() {
        // Seen once in many starts with QEMU 10.0.2 under TCG: its own check of a write to the MSI-X table while the guest's
        // kernel measures BARs. No guest can do anything about it.
        Err(err) if err.to_string().contains("msix_table_mmio_write: Assertion") => once(),
        result => result,
    }
}

/// Converts and boots on these buses; the time to the login on each.
pub fn prove(built: &BuiltGuest, out: &Path, buses: &[Bus]) -> Result<(Figures, Vec<Duration>)> {
    let figures = convert(built, out, None).context("converting")?;
    let mut booted = Vec::new();
    for bus in buses {
        let time = boot(built, out, *bus).with_context(|| format!("converted on {bus:?}"))?;
        booted.push(time);
    }
    Ok((figures, booted))
}

fn machine<P: AsRef<Path>>(built: &BuiltGuest, disks: &[P], format: &str) -> Boot {
    let (first, rest) = match disks.split_first() {
        Some((first, rest)) => (first.as_ref().to_owned(), rest),
        None => (PathBuf::new(), disks),
    };
    let mut boot = Boot::new(first, format);
    for disk in rest {
        boot = boot.disk(disk.as_ref(), format);
    }
    boot.net(built.static_ip, built.gateway, Some(MAC))
        .firmware(built.guest.uefi)
}

/// The disks as they are for a machine whose firmware knows no boot entry: with UEFI, a copy in `dir` that has the loader a
/// second time, at the path of removable media. Stands for the old machine's own variables.
fn with_boot_entry(built: &BuiltGuest, dir: &Path) -> Result<Vec<PathBuf>> {
    let mut disks = built.disks.clone();
    let (Some(esp), Some(first)) = (Plan::of(&built.guest).esp, disks.first_mut()) else {
        return Ok(disks);
    };
    let copy = dir.join("disk.raw");
    cmd::output(cmd::command("cp", ["--sparse=always"]).args([&*first, &copy]))?;
    let at = format!("{}@@{}", copy.display(), esp.span.offset());
    let loader = match built.guest.loader {
        Loader::SystemdBoot => "EFI/systemd/systemd-bootx64.efi",
        _ => "EFI/debian/grubx64.efi",
    };
    let taken = dir.join("loader.efi");
    cmd::output(cmd::command("mcopy", ["-i", &at, &format!("::/{loader}")]).arg(&taken))?;
    cmd::output(&mut cmd::command("mmd", ["-i", &at, "::/EFI/BOOT"]))?;
    cmd::output(
        cmd::command("mcopy", ["-i", &at])
            .arg(&taken)
            .arg("::/EFI/BOOT/BOOTX64.EFI"),
    )?;
    *first = copy;
    Ok(disks)
}

fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir_in(places::cache_dir()).context("creating a scratch directory")
}

fn login_and_answer(built: &BuiltGuest, run: &mut Running) -> Result<Duration> {
    let login = run.wait_unlocked_login(built.guest.passphrase(), LOGIN)?;
    let banner = run.ssh_banner(BANNER)?;
    ensure!(banner.starts_with("SSH-2.0-"), "{banner}");
    Ok(login)
}

/// The old machine as libvirt would describe it.
fn source_xml(built: &BuiltGuest) -> String {
    let firmware = if built.guest.uefi {
        " firmware='efi'"
    } else {
        ""
    };
    let letters = ["sda", "sdb"];
    let disks: String = (letters.iter().zip(&built.disks))
        .map(|(letter, path)| {
            format!(
                "    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
                 <target dev='{letter}' bus='scsi'/></disk>\n",
                path.display()
            )
        })
        .collect();
    format!(
        "<domain type='kvm'>\n  <name>{}</name>\n  <memory unit='MiB'>1024</memory>\n  <vcpu>2</vcpu>\n\
         \x20 <os{firmware}><type arch='x86_64' machine='q35'>hvm</type></os>\n  <devices>\n{disks}\
         \x20   <interface type='network'><mac address='{MAC}'/><source network='default'/><model type='vmxnet3'/></interface>\n\
         \x20 </devices>\n</domain>\n",
        built.guest.name
    )
}
