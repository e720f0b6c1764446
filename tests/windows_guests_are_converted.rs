//! The promise: Windows of VMware and of Hyper-V comes out with drivers, registry and volumes that Windows would take for
//! its own. There is no Windows to boot here: what came out is read back, by our reader and by others.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use registry::{Hive, Logs};
use testkit::cmd;
use testkit::guest::windows::{
    DATA, Volume, Windows, WindowsGuest, cut, hash, require_ntfs, virtio_win, windows,
};
use v2v_tests::{arg, assert_image_clean, ok};

/// What a conversion under TCG may take on a machine with nothing else to do (issue 6); doubled where there is more to do.
const LIMIT: Duration = Duration::from_secs(60);
const CONFIG: &str = "Windows/System32/config";

/// A converted machine.
struct Converted {
    dir: tempfile::TempDir,
    xml: String,
    /// The disk, raw again.
    raw: PathBuf,
    /// Bytes of the qcow2 file.
    actual_size: u64,
}

fn arguments(guest: &WindowsGuest, out: &Path) -> Vec<String> {
    let mode = match guest.which {
        Windows::Seven => "vmx",
        Windows::EightOne => "disk",
    };
    let mut args: Vec<String> = ["-i", mode].map(str::to_owned).to_vec();
    args.push(arg(&guest.source));
    args.extend(
        [
            "-o",
            "local",
            "-of",
            "qcow2",
            "-on",
            guest.which.name(),
            "-os",
        ]
        .map(str::to_owned),
    );
    args.push(arg(out));
    args
}

#[expect(
    clippy::print_stderr,
    reason = "the time of a conversion, for whoever runs this by hand"
)]
fn convert(which: Windows) -> Result<Option<Converted>> {
    if !require_ntfs() || !testkit::require_tool("qemu-system-x86_64") {
        return Ok(None);
    }
    let dir = tempfile::tempdir_in(testkit::target_dir())?;
    let Some(drivers) = virtio_win(dir.path())? else {
        testkit::skip("fixtures are absent: set V2V_FIXTURES");
        return Ok(None);
    };
    let guest = windows(which)?;
    let mut args = arguments(&guest, dir.path());
    args.extend(["--virtio-win".to_owned(), arg(&drivers)]);
    let began = Instant::now();
    ok(&args)?;
    eprintln!(
        "{} converted in {:.1} s",
        which.name(),
        began.elapsed().as_secs_f64()
    );
    let limit = if is_busy() { LIMIT * 2 } else { LIMIT };
    ensure!(
        began.elapsed() < limit,
        "{} took {:.1} s",
        which.name(),
        began.elapsed().as_secs_f64()
    );
    let disk = dir.path().join(format!("{}-sda", which.name()));
    assert_image_clean(&disk)?;
    let raw = dir.path().join("back.raw");
    ok(["image", "convert", "-O", "raw", &arg(&disk), &arg(&raw)])?;
    let xml = fs::read_to_string(dir.path().join(format!("{}.xml", which.name())))?;
    let actual_size = fs::metadata(&disk)?.len();
    Ok(Some(Converted {
        dir,
        xml,
        raw,
        actual_size,
    }))
}

/// True when others have the processors, too.
fn is_busy() -> bool {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default();
    load > 2.0
}

fn hive(root: &Path, name: &str) -> Result<Hive> {
    let bytes =
        fs::read(root.join(CONFIG).join(name)).with_context(|| format!("reading {name}"))?;
    Ok(Hive::recover(bytes, &Logs::default())?.hive)
}

fn number(hive: &Hive, path: &str, name: &str) -> Result<Option<u32>> {
    Ok(hive.value(path, name)?.and_then(|value| value.as_u32()))
}

fn acl(path: &Path) -> Result<Vec<u8>> {
    let mut list = vec![0u8; 4096];
    let len = rustix::fs::getxattr(path, "system.ntfs_acl", &mut list)
        .with_context(|| format!("reading the access list of {}", path.display()))?;
    list.truncate(len);
    Ok(list)
}

/// What holds of every converted Windows; its C: in a file.
fn is_as_promised(which: Windows, converted: &Converted) -> Result<PathBuf> {
    let guest = windows(which)?;
    let scratch = converted.dir.path();
    let part = cut(&converted.raw, which.system(), &scratch.join("c"))?;
    let before = cut(&guest.raw, which.system(), &scratch.join("before"))?;
    cmd::output(cmd::command("ntfsfix", ["-n"]).arg(&part))?;
    let info = cmd::output(cmd::command("ntfsinfo", ["-m"]).arg(&part))?;
    ensure!(info.contains("Volume Flags: 0x0000"), "{info}");
    let untouched = Volume::at(&before).mounted("ro", |root| {
        let files = ["SYSTEM", "SOFTWARE", "SAM", "SECURITY"];
        let hashes = files.map(|name| Ok(hash(&fs::read(root.join(CONFIG).join(name))?)));
        hashes.into_iter().collect::<Result<Vec<String>>>()
    })?;
    let kept = Volume::at(&part).mounted("ro", |root| {
        let config = root.join(CONFIG);
        // The hives as they were, and those that are no business of ours.
        for (name, before) in [
            ("SYSTEM.pre-v2v", &untouched[0]),
            ("SOFTWARE.pre-v2v", &untouched[1]),
            ("SAM", &untouched[2]),
            ("SECURITY", &untouched[3]),
        ] {
            ensure!(
                hash(&fs::read(config.join(name))?) == *before,
                "{name} differs"
            );
        }
        for name in ["SYSTEM", "SOFTWARE"] {
            let edited = hive(root, name)?;
            edited.verify()?;
            second_reader(&config.join(name))?;
            // Nobody may write to it who could not before.
            ensure!(
                acl(&config.join(name))? == acl(&config.join("SAM"))?,
                "access to {name}"
            );
        }
        let system = hive(root, "SYSTEM")?;
        let service = "ControlSet001\\Services\\viostor";
        ensure!(
            number(&system, service, "Start")? == Some(0),
            "viostor does not start at boot"
        );
        ensure!(
            number(&system, service, "Type")? == Some(1),
            "viostor is no kernel driver"
        );
        let driver = root.join("Windows/System32/drivers/viostor.sys");
        ensure!(driver.is_file(), "viostor.sys is not there");
        // Inherited: SYSTEM, Administrators, Users; not everybody's to write.
        let list = acl(&driver)?;
        ensure!(
            list.len() > 80,
            "viostor.sys has an access list of {} bytes",
            list.len()
        );
        let letter = fs::read_to_string(root.join("Users/Public/Desktop/letter.txt"))?;
        ensure!(letter.contains("Dear"), "{letter}");
        let kept = ["SYSTEM.pre-v2v", "SOFTWARE.pre-v2v"];
        let sizes = kept.map(|name| Ok(fs::metadata(config.join(name))?.len()));
        sizes.into_iter().sum::<Result<u64>>()
    })?;
    // What nobody uses was not copied: it was noise, which does not compress. The untouched hives came on top.
    let raw = raw_use(&guest.raw)?;
    ensure!(
        converted.actual_size + guest.noise * 9 / 10 < raw + kept + (16 << 20),
        "{} bytes of {raw}, {} of them noise",
        converted.actual_size,
        guest.noise
    );
    let is_kvm = converted.xml.contains("type=\"kvm\"") || converted.xml.contains("type='kvm'");
    let hyperv = is_kvm.then_some("<hyperv");
    for wanted in ["bus=\"virtio\"", "offset=\"localtime\""]
        .into_iter()
        .chain(hyperv)
    {
        let single = wanted.replace('"', "'");
        ensure!(
            converted.xml.contains(wanted) || converted.xml.contains(&single),
            "no {wanted} in {}",
            converted.xml
        );
    }
    Ok(part)
}

/// Bytes that a sparse file occupies.
fn raw_use(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() * 512)
}

/// hivexregedit reads what we wrote, to its last key.
fn second_reader(hive: &Path) -> Result<()> {
    if !testkit::require_tool("hivexregedit") {
        return Ok(());
    }
    let output = Command::new("hivexregedit")
        .args(["--export", "--prefix", "HKLM"])
        .arg(hive)
        .arg("\\")
        .output()
        .context("starting hivexregedit")?;
    ensure!(
        output.status.success() && output.stdout.len() > 1 << 20,
        "hivexregedit: {} bytes, {}",
        output.stdout.len(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn windows_7_of_vmware() -> Result<()> {
    let Some(converted) = convert(Windows::Seven)? else {
        return Ok(());
    };
    let system = is_as_promised(Windows::Seven, &converted)?;
    ensure!(!converted.xml.contains("efi"), "{}", converted.xml);
    data_disk_is_as_promised(&converted, &system)
}

/// E: comes with its letter, goes online, and what is free on it stays behind.
fn data_disk_is_as_promised(converted: &Converted, system: &Path) -> Result<()> {
    let scratch = converted.dir.path();
    let guest = windows(Windows::Seven)?;
    let before = guest.data.as_deref().context("no data disk")?;
    let disk = scratch.join("win7-sdb");
    assert_image_clean(&disk)?;
    let raw = scratch.join("data.raw");
    ok(["image", "convert", "-O", "raw", &arg(&disk), &arg(&raw)])?;
    let table = |path: &Path| -> Result<Vec<u8>> {
        let mut sector = vec![0; 512];
        fs::File::open(path)?.read_exact(&mut sector)?;
        Ok(sector)
    };
    ensure!(
        table(&raw)? == table(before)?,
        "the partition table differs"
    );
    let part = cut(&raw, DATA, &scratch.join("e"))?;
    cmd::output(cmd::command("ntfsfix", ["-n"]).arg(&part))?;
    let ledger = |path: &Path| {
        Volume::at(path).mounted("ro", |root| Ok(hash(&fs::read(root.join("ledger.txt"))?)))
    };
    let old = cut(before, DATA, &scratch.join("e-before"))?;
    ensure!(ledger(&part)? == ledger(&old)?, "the ledger differs");
    let copied = fs::metadata(&disk)?.len();
    ensure!(copied < 16 << 20, "{copied} bytes of the data disk");
    Volume::at(system).mounted("ro", |root| {
        let system = hive(root, "SYSTEM")?;
        for set in ["ControlSet001", "ControlSet002"] {
            let policy = format!("{set}\\Services\\partmgr\\Parameters");
            let policy = number(&system, &policy, "SanPolicy")?;
            ensure!(policy == Some(1), "{set}: SAN policy {policy:?}");
        }
        let letter = system.value("MountedDevices", "\\DosDevices\\E:")?;
        let place = letter.map(|value| value.data).unwrap_or_default();
        ensure!(
            place.ends_with(&DATA.start.to_le_bytes()) && place.len() == 12,
            "E: is at {place:02x?}"
        );
        Ok(())
    })
}

#[test]
fn windows_8_1_with_uefi() -> Result<()> {
    let Some(converted) = convert(Windows::EightOne)? else {
        return Ok(());
    };
    let system = is_as_promised(Windows::EightOne, &converted)?;
    ensure!(converted.xml.contains("efi"), "{}", converted.xml);
    // What only the log of its registry had: the power had been cut.
    Volume::at(&system).mounted("ro", |root| {
        let letter = hive(root, "SYSTEM")?.value("MountedDevices", "\\DosDevices\\C:")?;
        let place = letter.map(|value| value.data).unwrap_or_default();
        ensure!(place.starts_with(b"DMIO:ID:"), "C: is at {place:02x?}");
        Ok(())
    })?;
    let esp = cut(
        &converted.raw,
        Windows::EightOne.boot(),
        &converted.dir.path().join("esp"),
    )?;
    cmd::output(cmd::command("fsck.fat", ["-n"]).arg(&esp))?;
    let fallback = cmd::command("mdir", ["-b", "-i"])
        .arg(&esp)
        .arg("::/EFI/BOOT")
        .output()?;
    let names = String::from_utf8_lossy(&fallback.stdout).to_lowercase();
    ensure!(names.contains("bootx64.efi"), "{names}");
    Ok(())
}
