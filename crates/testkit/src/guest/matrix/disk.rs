//! Makes the disks of a matrix guest: file systems by build.sh, what lies below them and the partition tables here.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::files::{self, DRIVERS};
use super::plan::{Id, Part, Plan};
use super::trees::Tree;
use super::{Fs, Generator, MatrixGuest, Stack, loader, luks, packages};
use crate::cmd;
use crate::guest::disk::MIRROR_NAME;
use crate::guest::layout::{SECTOR, Span};
use crate::guest::{lvm, md, sparse};

/// The opened volume's name.
pub(super) const MAPPED: &str = "cryptroot";

const SCRIPT: &str = include_str!("build.sh");
/// Boot code before the disk signature.
const BOOT_CODE_SIZE: usize = 440;
const EXTENT_BYTES: u64 = lvm::EXTENT_SECTORS * SECTOR;

/// Everything here that decides what is built, for the cache key.
pub(super) fn recipe(guest: &MatrixGuest) -> String {
    format!(
        "{SCRIPT}{:?}{}{} {} {DRIVERS}",
        packages::of(guest),
        luks::PASSPHRASE,
        dracut_modules(guest),
        stack_modules(guest.stack)
    )
}

/// Builds `disk.raw` (and the mirror) in `dir`, using `dir/work` for everything else.
pub(super) fn build(guest: &MatrixGuest, plan: &Plan, tree: &Tree, dir: &Path) -> Result<()> {
    let work = dir.join("work");
    write_files(
        &files::files(guest, plan),
        &tree.kernel,
        &work.join("files"),
    )?;
    write_files(
        &loader::esp_files(guest, plan),
        &tree.kernel,
        &work.join("esp"),
    )?;
    fs::write(work.join("table"), plan.sfdisk_script()).context("writing the table")?;
    run_script(guest, plan, tree, &work)?;
    let root = container(guest, plan, &work)?;
    let disk = new_disk(
        &dir.join("disk.raw"),
        plan.disk_sectors,
        &plan.sfdisk_script(),
        &work,
    )?;
    for (part, image) in [(plan.esp, "esp.img"), (plan.boot, "boot.img")] {
        if let Some(part) = part {
            copy_into(
                &work.join(image),
                &disk,
                part.span.offset(),
                part.span.len(),
            )?;
        }
    }
    let mut disks = vec![disk];
    if guest.stack == Stack::Md {
        disks.push(new_disk(
            &dir.join(MIRROR_NAME),
            plan.disk_sectors,
            &plan.mirror_script(),
            &work,
        )?);
    }
    for (half, disk) in (0..).zip(&disks) {
        let mut span = plan.root.span;
        if guest.stack == Stack::Md {
            md::write_member(disk, span, half)?;
            span = Span {
                start_sector: span.start_sector + md::DATA_SECTORS,
                sectors: span.sectors - md::DATA_SECTORS,
            };
        }
        copy_into(&root, disk, span.offset(), span.len())?;
        disk.sync_all().context("syncing a disk")?;
    }
    Ok(())
}

fn write_files(files: &[files::File], kernel: &str, top: &Path) -> Result<()> {
    fs::create_dir_all(top).with_context(|| format!("creating {}", top.display()))?;
    for file in files {
        let file = file.of_kernel(kernel);
        let path = top.join(file.path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        fs::write(&path, file.content).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(file.mode))
            .with_context(|| format!("setting the mode of {}", path.display()))?;
    }
    Ok(())
}

fn dracut_modules(guest: &MatrixGuest) -> &'static str {
    match (guest.stack, guest.fs) {
        (Stack::Plain, Fs::Btrfs) => "btrfs",
        (Stack::Plain, _) => "rootfs-block",
        (Stack::Lvm, _) => "dm lvm",
        (Stack::Md, Fs::Btrfs) => "mdraid btrfs",
        (Stack::Md, _) => "mdraid",
        (Stack::Luks, _) => "dm crypt",
        (Stack::LvmOnLuks, _) => "dm crypt lvm",
    }
}

/// What the old machine has loaded below the root's file system.
fn stack_modules(stack: Stack) -> &'static str {
    match stack {
        Stack::Plain => "",
        Stack::Lvm => "dm_mod",
        Stack::Md => "md_mod raid1",
        Stack::Luks | Stack::LvmOnLuks => {
            "dm_mod dm_crypt aes_generic xts ecb sha256_generic algif_skcipher"
        }
    }
}

fn run_script(guest: &MatrixGuest, plan: &Plan, tree: &Tree, work: &Path) -> Result<()> {
    let size = |part: Option<Part>| part.map_or(String::new(), |part| part.span.len().to_string());
    let boot_at = plan.boot.map_or(0, |part| part.span.offset() >> 20);
    let (format, lsinitrd) = (
        if guest.uefi { "x86_64-efi" } else { "i386-pc" },
        match guest.generator {
            Generator::Dracut => "lsinitrd",
            Generator::InitramfsTools => "lsinitramfs",
        },
    );
    let settings: [(&str, String); 24] = [
        ("WORK", work.display().to_string()),
        ("TREE", tree.dir.display().to_string()),
        ("KERNEL", tree.kernel.clone()),
        ("PACKAGES", packages::of(guest).join(" ")),
        ("NETWORK", format!("{:?}", guest.network)),
        ("GENERATOR", format!("{:?}", guest.generator)),
        ("LSINITRD", lsinitrd.to_owned()),
        ("DRACUT_MODULES", dracut_modules(guest).to_owned()),
        ("STACK_MODULES", stack_modules(guest.stack).to_owned()),
        ("DRIVERS", DRIVERS.to_owned()),
        ("CRYPT_SOURCE", files::crypt_source(guest, plan)),
        ("FS", guest.fs.name().to_owned()),
        ("LOADER", format!("{:?}", guest.loader)),
        ("GRUB_FORMAT", format.to_owned()),
        ("GRUB_PREFIX", loader::grub_prefix(guest, plan)),
        ("GRUB_MODULES", loader::grub_modules(guest)),
        ("ROOT_SIZE", plan.root_size.to_string()),
        ("ROOT_UUID", plan.uuid(Id::Root)),
        ("BOOT_SIZE", size(plan.boot)),
        ("BOOT_UUID", plan.uuid(Id::Boot)),
        ("BOOT_MIB_OFFSET", boot_at.to_string()),
        ("ESP_SIZE", size(plan.esp)),
        ("ESP_ID", plan.esp_id()),
        ("DISK_SIZE", (plan.disk_sectors * SECTOR).to_string()),
    ];
    let text: String = (settings.iter())
        .map(|(key, value)| format!("{key}='{value}'\n"))
        .collect();
    let (script, file) = (work.join("build.sh"), work.join("settings"));
    fs::write(&script, SCRIPT).context("writing build.sh")?;
    fs::write(&file, text).context("writing the settings")?;
    let namespace = ["--mount", "--propagation", "private", "sh", "-e"];
    let mut command = cmd::command("unshare", namespace);
    command.args([&script, &file]);
    // The host's need not be there in the guest's tree.
    command.env_remove("TMPDIR");
    cmd::output(&mut command).context("making the guest's file systems")?;
    Ok(())
}

/// What goes into the root's partition: the file system, or it wrapped in LVM and LUKS. What is wrapped is removed, so that
/// the host need not have room for all of them at once.
fn container(guest: &MatrixGuest, plan: &Plan, work: &Path) -> Result<PathBuf> {
    let root = work.join("root.img");
    let inner = match plan.lvm {
        Some(lvm) => {
            let path = work.join("pv.img");
            let file = new_file(&path, lvm.pv.len())?;
            lvm::write_pv(&file, &lvm)?;
            let start = lvm::PE_START_SECTORS * SECTOR;
            let root_len = lvm.root_extents * EXTENT_BYTES;
            copy_into(&root, &file, start, root_len)?;
            fs::remove_file(&root).context("removing the root's file system")?;
            let swap = work.join("swap.img");
            new_file(&swap, lvm.swap_extents * EXTENT_BYTES)?;
            fs::set_permissions(&swap, Permissions::from_mode(0o600))
                .context("protecting the swap")?;
            cmd::output(cmd::command("mkswap", ["-q"]).arg(&swap))?;
            copy_into(
                &swap,
                &file,
                start + root_len,
                lvm.swap_extents * EXTENT_BYTES,
            )?;
            path
        }
        None => root,
    };
    let version = match guest.stack {
        Stack::Luks => luks::Version::Two,
        Stack::LvmOnLuks => luks::Version::One,
        Stack::Plain | Stack::Lvm | Stack::Md => return Ok(inner),
    };
    let encrypted = luks::encrypt(&inner, &plan.uuid(Id::Luks), work, version)?;
    fs::remove_file(&inner).context("removing what was encrypted")?;
    Ok(encrypted)
}

pub(super) fn new_file(path: &Path, len: u64) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("creating {}", path.display()))?;
    file.set_len(len)
        .with_context(|| format!("sizing {}", path.display()))?;
    Ok(file)
}

/// A disk with its table, and with what its BIOS starts.
fn new_disk(path: &Path, sectors: u64, table: &str, work: &Path) -> Result<File> {
    let disk = new_file(path, sectors * SECTOR)?;
    let sfdisk = ["--quiet", "--no-reread", "--no-tell-kernel"];
    cmd::output_with_input(cmd::command("sfdisk", sfdisk).arg(path), table)?;
    let gap = work.join("gap.img");
    if gap.is_file() {
        let gap = fs::read(&gap).context("reading the boot code")?;
        ensure!(
            gap.len() <= 1 << 20,
            "the boot code has {} bytes",
            gap.len()
        );
        disk.write_all_at(&gap[..BOOT_CODE_SIZE.min(gap.len())], 0)
            .context("writing the boot sector")?;
        disk.write_all_at(gap.get(512..).unwrap_or_default(), SECTOR)
            .context("writing what follows the boot sector")?;
    }
    Ok(disk)
}

/// Copies the whole file, at most `room` bytes.
fn copy_into(path: &Path, disk: &File, offset: u64, room: u64) -> Result<()> {
    let len = fs::metadata(path)
        .with_context(|| format!("looking at {}", path.display()))?
        .len();
    if len > room {
        bail!(
            "{} has {len} bytes, but there is room for {room}",
            path.display()
        );
    }
    copy_range(path, 0, disk, offset, len)
}

/// Copies `len` bytes; blocks of zeroes stay holes.
pub(super) fn copy_range(path: &Path, from: u64, disk: &File, to: u64, len: u64) -> Result<()> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    sparse::copy(&file, from, len, disk, to).with_context(|| format!("copying {}", path.display()))
}
