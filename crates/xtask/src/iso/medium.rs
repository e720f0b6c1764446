//! Puts the medium together: an ISO 9660 file system that is a CD (El Torito for BIOS and UEFI) and, under the same
//! bytes, a disk (boot code in the first sector, GPT with the ISO and the EFI system partition).

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::recipe::Recipe;
use super::tools::Tools;
use super::{base, boot};
use crate::debian::{apt, hash, hex, replace};

/// Volume label.
const LABEL: &str = "P2V";
/// GPT type of an EFI system partition (UEFI 2.10, table 5.7).
const ESP_TYPE: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
/// GPT type of basic data, for the partition that the ISO 9660 file system begins.
const DATA_TYPE: &str = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7";

/// Writes p2v.iso and what goes beside it to `work`; gives the path of the ISO.
pub(super) fn write(work: &Path, base: &Path, recipe: &Recipe, initrd: &[u8]) -> Result<PathBuf> {
    let making = work.join("medium.part");
    if making.exists() {
        std::fs::remove_dir_all(&making)
            .with_context(|| format!("removing {}", making.display()))?;
    }
    let stage = making.join("stage");
    std::fs::create_dir_all(&stage)?;
    let vmlinuz = std::fs::read(base.join("vmlinuz")).context("reading vmlinuz")?;
    let manifest = std::fs::read(base.join("MANIFEST")).context("reading MANIFEST")?;
    let custom = recipe.custom()?;
    let everything = hash(&[
        &vmlinuz,
        initrd,
        &manifest,
        recipe.menu.as_bytes(),
        recipe.find.as_bytes(),
        custom.as_bytes(),
    ]);
    // One medium is told from another by a file's name, so that GRUB cannot take the kernel of an older stick.
    let id = format!("id-{}", everything.get(..16).unwrap_or(&everything));
    let find = recipe.find.replace("@ID@", &id);
    let bios = boot::bios(base, &find, &making)?;
    let esp = boot::esp(base, &find, &making)?;

    let put = |path: &str, data: &[u8]| -> Result<()> {
        let path = stage.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&stage))?;
        std::fs::write(&path, data).with_context(|| format!("writing {}", path.display()))
    };
    put(&format!("p2v/{id}"), everything.as_bytes())?;
    put("p2v/vmlinuz", &vmlinuz)?;
    put("p2v/initrd.img", initrd)?;
    put("p2v/custom.cfg", custom.as_bytes())?;
    put("p2v/MANIFEST", &manifest)?;
    put("boot/grub/grub.cfg", recipe.menu.as_bytes())?;
    put("boot/grub/bios.img", &std::fs::read(&bios)?)?;
    // Also as files, for sticks to which the files are copied instead of the image.
    for (to, from) in boot::EFI_FILES {
        put(to, &std::fs::read(base.join("packages").join(from))?)?;
    }
    let epoch = base::epoch(base)?;
    set_times(&stage, epoch)?;
    let iso = making.join("p2v.iso");
    xorriso(base, &stage, &esp, &iso)?;

    let words = recipe.base_words()?;
    let name = work.join("p2v.iso");
    std::fs::rename(&iso, &name).with_context(|| format!("renaming to {}", name.display()))?;
    replace(&work.join("vmlinuz"), &vmlinuz)?;
    replace(&work.join("initrd.img"), initrd)?;
    replace(&work.join("MANIFEST"), &manifest)?;
    std::fs::create_dir_all(work.join("pxe"))?;
    for (file, text) in &recipe.pxe {
        let text = text.replace("@BASE@", &words);
        std::fs::write(work.join("pxe").join(file), text)?;
    }
    let mut sums = String::new();
    for file in ["p2v.iso", "vmlinuz", "initrd.img", "MANIFEST"] {
        let digest = Sha256::digest(std::fs::read(work.join(file))?);
        let _ = writeln!(sums, "{}  {file}", hex(&digest));
    }
    std::fs::write(work.join("SHA256SUMS"), sums)?;
    std::fs::remove_dir_all(&making)?;
    Ok(name)
}

fn xorriso(base: &Path, stage: &Path, esp: &Path, iso: &Path) -> Result<()> {
    let epoch = base::epoch(base)?;
    let mut command = Tools::open(&base.join("tools")).command("xorriso", epoch);
    command.args([
        "-no_rc", "-as", "mkisofs", "-quiet", "-r", "-V", LABEL, "-o",
    ]);
    command.arg(iso);
    // BIOS: El Torito image, which finds the rest of itself by its boot info table; boot code for sticks.
    command.args(["-b", "boot/grub/bios.img", "-no-emul-boot"]);
    command.args([
        "-boot-load-size",
        "4",
        "-boot-info-table",
        "--grub2-boot-info",
    ]);
    command.arg("--grub2-mbr").arg(boot::mbr(base));
    // UEFI: the ESP is a partition behind the file system, and El Torito points into it.
    command.args(["-append_partition", "2", ESP_TYPE]).arg(esp);
    command.args(["-appended_part_as_gpt", "-eltorito-alt-boot"]);
    command.args([
        "-e",
        "--interval:appended_partition_2:all::",
        "-no-emul-boot",
    ]);
    // The first partition holds the file system too, for what mounts partitions only.
    command.args(["-partition_offset", "16", "-iso_mbr_part_type", DATA_TYPE]);
    command.arg("--mbr-force-bootable");
    command.arg(stage);
    apt::run(&mut command).map(drop).context("running xorriso")
}

/// Sets the times of all files and folders.
fn set_times(dir: &Path, epoch: u64) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            set_times(&entry.path(), epoch)?;
        } else {
            File::options()
                .write(true)
                .open(entry.path())?
                .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(epoch))?;
        }
    }
    File::open(dir)?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(epoch))?;
    Ok(())
}
