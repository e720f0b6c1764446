//! The promise: the old machine's boot menu comes along. A VirtualBox machine with entries of its own firmware goes in, and
//! the new machine's firmware starts the guest by the old entry, not by the fallback loader; with no entries to bring, by
//! those that the guest's ESP tells.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::cmd;
use testkit::guest::{Sample, sample};
use uefi::device_path::{HardDrive, Signature};
use uefi::{Layout, LoadOption, Store, menu};
use v2v_tests::{arg, listing, ok};

/// TCG on two cores that other tests use too.
const LOGIN: Duration = Duration::from_secs(400);
/// The sample's only loader.
const LOADER: &str = r"\EFI\debian\grubx64.efi";
/// What the old machine called it.
const OLD: &str = "Debian of the old machine";
/// What is before a partition in a device path: the PCI root, a function, a SATA port (UEFI 2.10, 10.3.2 and 10.3.4).
const HARDWARE: [u8; 28] = [
    2, 1, 12, 0, 0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0, // PciRoot(0)
    1, 1, 6, 0, 2, 0x1f, // Pci(1f,2)
    3, 18, 10, 0, 0, 0, 0xff, 0xff, 0, 0, // Sata(0)
];

/// A started script; what it shows is in a file.
struct Script {
    child: Child,
    console: PathBuf,
}

impl Script {
    fn start(script: &Path, console: PathBuf) -> Result<Self> {
        let child = Command::new("sh")
            .arg(script)
            .arg("-snapshot")
            .env("V2V_ACCEL", "tcg")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .stdout(File::create(&console)?)
            .stderr(File::options().append(true).open(&console)?)
            .spawn()
            .context("starting the script")?;
        Ok(Self { child, console })
    }

    /// What is on the console when `text` has appeared.
    fn wait_for(&mut self, text: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            let ended = self.child.try_wait()?;
            let seen = String::from_utf8_lossy(&fs::read(&self.console)?).into_owned();
            if seen.contains(text) {
                return Ok(seen);
            }
            if ended.is_some() || begun.elapsed() > LOGIN {
                bail!("`{text}` is not on the console ({ended:?}): {seen}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The partition of the sample's loader.
fn esp(raw: &Path) -> Result<HardDrive> {
    let uuid = cmd::output(&mut cmd::command("sfdisk", ["--part-uuid", &arg(raw), "1"]))?;
    let signature = Signature::of_partuuid(uuid.trim()).context("no partition UUID")?;
    Ok(HardDrive {
        number: 1,
        start_blocks: 2048,
        size_blocks: 1,
        signature,
    })
}

/// An entry as VirtualBox's firmware writes it: it begins with the machine's hardware.
fn old_entry(drive: &HardDrive) -> Result<Vec<u8>> {
    let short = LoadOption::new(OLD, drive, LOADER, Vec::new()).context("too long")?;
    let path = [&HARDWARE[..], short.path()].concat();
    let mut entry = short.to_bytes();
    entry.truncate(entry.len() - short.path().len());
    entry[4..6].copy_from_slice(&u16::try_from(path.len())?.to_le_bytes());
    entry.extend(path);
    Ok(entry)
}

/// A VirtualBox machine with this disk and boot menu.
fn virtualbox(folder: &Path, raw: &Path, entries: &[Vec<u8>]) -> Result<PathBuf> {
    let disk = arg(folder.join("web.vdi"));
    let args = ["convert", "-f", "raw", "-O", "vdi", &arg(raw), &disk];
    cmd::output(&mut cmd::command("qemu-img", args))?;
    let mut store = Store::empty(Layout::Ovmf4M);
    menu::add(&mut store, entries)?;
    fs::write(folder.join("web.nvram"), store.bytes())?;
    let id = "{22222222-2222-2222-2222-222222222222}";
    let text = format!(
        "<?xml version=\"1.0\"?>\n<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.19-linux\">\
         <Machine uuid=\"{{9ce3fa4e-6778-472b-b841-a734a3d5a142}}\" name=\"web\" OSType=\"Debian_64\">\
         <MediaRegistry><HardDisks><HardDisk uuid=\"{id}\" location=\"web.vdi\" format=\"VDI\" type=\"Normal\"/>\
         </HardDisks></MediaRegistry><Hardware><CPU count=\"2\"/><Memory RAMSize=\"1024\"/><Firmware type=\"EFI\"/>\
         <StorageControllers><StorageController name=\"SATA\" type=\"AHCI\" PortCount=\"1\">\
         <AttachedDevice type=\"HardDisk\" port=\"0\" device=\"0\"><Image uuid=\"{id}\"/></AttachedDevice>\
         </StorageController></StorageControllers></Hardware></Machine></VirtualBox>"
    );
    let settings = folder.join("web.vbox");
    fs::write(&settings, text)?;
    Ok(settings)
}

/// Converts for QEMU; gives the script and the menu that was written.
fn convert(
    mode: &str,
    source: &Path,
    name: &str,
    out: &Path,
) -> Result<(PathBuf, Vec<LoadOption>)> {
    ok(["-i", mode, &arg(source), "-o", "qemu", "-os", &arg(out)])?;
    let files = ["-sda", ".sh", "_VARS.fd"].map(|end| format!("{name}{end}"));
    ensure!(listing(out)? == files, "{:?}", listing(out)?);
    let flash = fs::read(out.join(&files[2]))?;
    let options = menu::read(&flash)?;
    let options = options.iter().map(|option| LoadOption::parse(option));
    Ok((out.join(&files[1]), options.collect::<Result<_, _>>()?))
}

/// Starts the guest: the firmware takes this entry, and the guest reaches its login.
fn starts_by(script: &Path, description: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut run = Script::start(script, folder.path().join("console"))?;
    let console = run.wait_for(" login: ")?;
    let started = console
        .lines()
        .find(|line| line.contains("BdsDxe: starting"));
    let line = started.with_context(|| format!("the firmware is silent: {console}"))?;
    let want = format!("starting Boot0000 \"{description}\" from HD(1,GPT,");
    ensure!(line.contains(&want) && line.contains(LOADER), "{line}");
    Ok(())
}

#[test]
fn an_entry_of_the_old_firmware_starts_the_guest() -> Result<()> {
    let guest = sample(Sample::Uefi)?;
    let folder = tempfile::tempdir_in(testkit::target_dir())?;
    let drive = esp(&guest.raw)?;
    let gone = HardDrive {
        signature: Signature::Mbr(0x0bad_d15c),
        ..drive
    };
    let entries = [
        LoadOption::new("a disk that stays behind", &gone, LOADER, Vec::new())
            .context("too long")?
            .to_bytes(),
        old_entry(&drive)?,
    ];
    let machine = virtualbox(folder.path(), &guest.raw, &entries)?;
    let out = tempfile::tempdir_in(testkit::target_dir())?;
    let (script, options) = convert("vbox", &machine, "web", out.path())?;
    let short = LoadOption::new(OLD, &drive, LOADER, Vec::new());
    ensure!(options == Vec::from_iter(short), "{options:?}");
    starts_by(&script, OLD)
}

#[test]
fn an_entry_made_from_the_esp_starts_a_guest_whose_entries_are_not_known() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let guest = sample(Sample::Uefi)?;
    let out = tempfile::tempdir_in(testkit::target_dir())?;
    let (script, options) = convert("ova", &guest.ova, guest.name, out.path())?;
    let [option] = &options[..] else {
        bail!("expected one entry, found {options:?}");
    };
    starts_by(&script, &option.description())
}

#[test]
fn a_domain_of_libvirt_starts_by_the_entry() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let Some(libvirt) = testkit::Libvirtd::start()? else {
        return Ok(());
    };
    let guest = sample(Sample::Uefi)?;
    let pool = tempfile::tempdir_in(testkit::target_dir())?;
    libvirt.start_default_network()?;
    let (ova, os) = (arg(&guest.ova), arg(pool.path()));
    let to = ["-o", "libvirt", "-oc", libvirt.uri(), "-os", &os];
    ok([&["-i", "ova", &ova][..], &to, &["-n", "default"]].concat())?;
    let files = ["-sda", "_VARS.fd"].map(|end| format!("{}{end}", guest.name));
    ensure!(
        listing(pool.path())? == files,
        "{:?}",
        listing(pool.path())?
    );
    libvirt.virsh(&["start", guest.name])?;
    let console = libvirt.wait_on_console(guest.name, " login: ", LOGIN)?;
    let want = "starting Boot0000 \"Debian GNU/Linux 12 (bookworm)\" from HD(1,GPT,";
    ensure!(console.contains(want), "{console}");
    Ok(())
}
