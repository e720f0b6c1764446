//! Boot loaders: GRUB's El Torito image for BIOS, and the EFI system partition with Debian's signed shim and GRUB.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::base;
use super::tools::Tools;
use crate::debian::apt;

const GRUB_PC: &str = "packages/grub-pc-bin/usr/lib/grub/i386-pc";
/// Built into the BIOS GRUB: what the menu uses, and nothing else. The signed UEFI GRUB has them all.
const BIOS_MODULES: &[&str] = &[
    "biosdisk",
    "iso9660",
    "part_msdos",
    "part_gpt",
    "fat",
    "search",
    "search_fs_file",
    "normal",
    "configfile",
    "linux",
    "boot",
    "test",
    "echo",
    "sleep",
    "serial",
    "terminal",
    "terminfo",
    "minicmd",
    "reboot",
    "halt",
    "ls",
    "cat",
    "all_video",
];
/// Path on the ESP and source below `packages`. shim starts `grubx64.efi` beside it, and `mmx64.efi` to enrol keys.
/// The GRUB for CDs looks for `/boot/grub/grub.cfg` on its own partition, that for disks for `/EFI/debian/grub.cfg`.
pub(super) const EFI_FILES: &[(&str, &str)] = &[
    (
        "EFI/BOOT/BOOTX64.EFI",
        "shim-signed/usr/lib/shim/shimx64.efi.signed",
    ),
    (
        "EFI/BOOT/grubx64.efi",
        "grub-efi-amd64-signed/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
    ),
    (
        "EFI/BOOT/mmx64.efi",
        "shim-helpers-amd64-signed/usr/lib/shim/mmx64.efi.signed",
    ),
];
/// Where the GRUB on the ESP looks for its menu.
const ESP_MENU: &str = "boot/grub/grub.cfg";
const ESP_SIZE_KIB: u64 = 6144;
/// Serial number of the ESP's FAT.
const ESP_SERIAL: &str = "50325645";

/// Writes `bios.img`, which finds the medium by `find`, to `dir`.
pub(super) fn bios(base: &Path, find: &str, dir: &Path) -> Result<PathBuf> {
    // Its own start runs the menu of $prefix by itself.
    let find: String = find
        .lines()
        .filter(|line| !line.starts_with("configfile "))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = dir.join("bios.cfg");
    std::fs::write(&config, find).with_context(|| format!("writing {}", config.display()))?;
    let image = dir.join("bios.img");
    let mut command = Tools::open(&base.join("tools")).command("grub-mkimage", base::epoch(base)?);
    command
        .args(["--format", "i386-pc-eltorito", "--prefix", "/boot/grub"])
        .arg("--directory")
        .arg(base.join(GRUB_PC))
        .arg("--config")
        .arg(&config)
        .arg("--output")
        .arg(&image)
        .args(BIOS_MODULES);
    apt::run(&mut command).context("making the BIOS boot image")?;
    Ok(image)
}

/// The first sector of a stick that a BIOS boots from.
pub(super) fn mbr(base: &Path) -> PathBuf {
    base.join(GRUB_PC).join("boot_hybrid.img")
}

/// Writes `esp.img`, whose GRUB finds the medium by `find`, to `dir`.
pub(super) fn esp(base: &Path, find: &str, dir: &Path) -> Result<PathBuf> {
    let config = dir.join("esp.cfg");
    std::fs::write(&config, find).with_context(|| format!("writing {}", config.display()))?;
    let image = dir.join("esp.img");
    let file =
        std::fs::File::create(&image).with_context(|| format!("creating {}", image.display()))?;
    file.set_len(ESP_SIZE_KIB * 1024)?;
    drop(file);
    let epoch = base::epoch(base)?;
    let mtools = |name: &str, args: &[&std::ffi::OsStr]| -> Result<()> {
        let mut command = Tools::open(&base.join("tools")).command("mtools", epoch);
        command
            .args(["-c", name, "-i"])
            .arg(&image)
            .args(args)
            .env("MTOOLSRC", "/dev/null")
            .env("MTOOLS_SKIP_CHECK", "1");
        apt::run(&mut command)
            .map(drop)
            .with_context(|| format!("making the EFI system partition: {name}"))
    };
    let sectors = (ESP_SIZE_KIB * 2).to_string();
    let format = [
        "-T", &sectors, "-h", "64", "-s", "32", "-N", ESP_SERIAL, "-v", "P2VESP", "::",
    ];
    mtools("mformat", &format.map(std::ffi::OsStr::new))?;
    for folder in ["::EFI", "::EFI/BOOT", "::boot", "::boot/grub"] {
        mtools("mmd", &[folder.as_ref()])?;
    }
    let packages = base.join("packages");
    let files = EFI_FILES
        .iter()
        .map(|(to, from)| (*to, packages.join(from)))
        .chain([(ESP_MENU, config.clone())]);
    for (to, from) in files {
        let to = format!("::{to}");
        mtools("mcopy", &[from.as_os_str(), to.as_ref()])?;
    }
    Ok(image)
}
