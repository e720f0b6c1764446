//! What is on C:.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use registry::testing::{incremental, settled};
use registry::{Hive, Logs, Value};

use super::volume::{noise, protect};
use super::{Windows, boot, disk};

/// Bytes of noise: a third each in pagefile.sys, hiberfil.sys, and files that were deleted.
pub(super) const NOISE: u64 = 96 << 20;
/// Seconds from 1601 to 2023 in units of 100 ns: when an edited hive was written.
const WRITTEN: u64 = 133_000_000_000_000_000;

/// Folders that every Windows has, as far as something looks at them.
const FOLDERS: &[&str] = &[
    "Windows/System32/config/RegBack",
    "Windows/System32/drivers/etc",
    "Windows/System32/DriverStore/FileRepository",
    "Windows/System32/Tasks",
    "Windows/inf",
    "Windows/Temp",
    "Windows/Boot/EFI",
    "Windows/Boot/PCAT",
    "Program Files/Common Files",
    "ProgramData",
    "Users/Public/Desktop",
    "System Volume Information",
];

/// Fills C:.
pub(super) fn fill(which: Windows, hives: &Path, root: &Path) -> Result<()> {
    protect(root)?;
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("creating {folder}"))?;
    }
    if which == Windows::EightOne {
        fs::create_dir_all(root.join("Program Files (x86)"))?;
        fs::create_dir_all(root.join("Windows/SysWOW64"))?;
    }
    let put = |path: &str, bytes: &[u8]| {
        fs::write(root.join(path), bytes).with_context(|| format!("writing {path}"))
    };
    let program = boot::program(which);
    for path in [
        "Windows/explorer.exe",
        "Windows/System32/cmd.exe",
        "Windows/System32/ntoskrnl.exe",
        "Windows/System32/winload.exe",
        "Windows/System32/drivers/disk.sys",
        "Windows/System32/drivers/storport.sys",
    ] {
        put(path, &program)?;
    }
    if which == Windows::EightOne {
        put("Windows/System32/winload.efi", &program)?;
        put("Windows/Boot/EFI/bootmgfw.efi", &program)?;
    }
    put(
        "Windows/inf/disk.inf",
        b"[Version]\r\nSignature=\"$Windows NT$\"\r\n",
    )?;
    put(
        "Windows/System32/drivers/etc/hosts",
        b"127.0.0.1 localhost\r\n",
    )?;
    for (name, bytes) in system(which, hives)? {
        put(&format!("Windows/System32/config/{name}"), &bytes)?;
    }
    let software = settled(fs::read(hives.join("SOFTWARE")).context("reading SOFTWARE")?);
    put("Windows/System32/config/SOFTWARE", &software)?;
    for name in ["SAM", "SECURITY", "DEFAULT"] {
        let bytes = Hive::create(name).to_bytes(WRITTEN);
        put(&format!("Windows/System32/config/{name}"), &bytes)?;
    }
    put(
        "Users/Public/Desktop/letter.txt",
        b"Dear administrator,\r\n",
    )?;
    let third = usize::try_from(NOISE / 3)?;
    put("deleted", &noise(1, third))?;
    put("pagefile.sys", &noise(2, third))?;
    // A session that woke up: its memory is of no use any more.
    put("hiberfil.sys", &[vec![0; 4096], noise(3, third)].concat())?;
    fs::remove_file(root.join("deleted"))?;
    Ok(())
}

/// SYSTEM and its logs. The machine with UEFI knows its C: by the partition's GUID, and the other its E: by signature and
/// offset, as Windows notes them. That of Windows 8.1 is as a power cut leaves it: the letter is in the log alone.
fn system(which: Windows, hives: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let bytes = settled(fs::read(hives.join("SYSTEM")).context("reading SYSTEM")?);
    let (letter, id) = match which {
        Windows::Seven => {
            let signature = disk::DATA_SIGNATURE.to_le_bytes().to_vec();
            let offset = disk::DATA.start.to_le_bytes().to_vec();
            ("E", [signature, offset].concat())
        }
        Windows::EightOne => {
            let id = [b"DMIO:ID:".to_vec(), boot::guid(disk::SYSTEM_GUID)].concat();
            ("C", id)
        }
    };
    let mut hive = Hive::recover(bytes.clone(), &Logs::default())?.hive;
    let name = format!("\\DosDevices\\{letter}:");
    hive.set("MountedDevices", &name, &Value::binary(id))?;
    hive.verify()?;
    let edited = hive.to_bytes(WRITTEN);
    if which == Windows::Seven {
        return Ok(vec![("SYSTEM", edited)]);
    }
    let made = incremental(&[&bytes, &edited]);
    Ok(vec![
        ("SYSTEM", made.primary),
        ("SYSTEM.LOG1", made.logs.log1),
        ("SYSTEM.LOG2", made.logs.log2),
    ])
}
