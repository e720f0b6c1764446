//! Makes the disk of a sample guest: the variant's tree by overlay mount, then partition table, file systems and boot loader
//! written into one sparse file.
//!
//! Mounts happen in a private mount namespace of one shell, so nothing stays mounted whatever ends it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::config::{self, Recipe};
use super::layout::{DISK_SECTORS, Layout, SECTOR, Span};
use super::lvm;
use super::md;
use super::root::Root;
use super::sparse;
use crate::cmd;

/// GRUB's boot sector may use the bytes before the disk signature (GRUB, `include/grub/i386/pc/boot.h`,
/// `GRUB_BOOT_MACHINE_WINDOWS_NT_MAGIC` at 0x1b8).
const BOOT_CODE_SIZE: usize = 440;
/// The jump over the check for a bad drive number: GRUB's setup turns it into two no-ops on hard disks
/// (`GRUB_BOOT_MACHINE_DRIVE_CHECK`).
const DRIVE_CHECK: std::ops::Range<usize> = 0x66..0x68;
const NOP: u8 = 0x90;
/// The gap before the first partition, less the boot sector.
const CORE_MAX: u64 = 2047 * SECTOR;

/// The other half of a mirror, beside `disk.raw`.
pub(super) const MIRROR_NAME: &str = "mirror.raw";

/// Features are spelled out because a newer host's mke2fs turns on some that GRUB 2.06 cannot read.
const EXT4_FEATURES: &str = "^metadata_csum_seed,^orphan_file";

/// Runs as `sh -e -c SCRIPT sh WORK ROOT KERNEL GRUB_FORMAT GRUB_PREFIX GRUB_MODULES DISK PACKAGES`:
/// makes WORK/tree, then runs the mke2fs commands that the caller appended.
const TREE_SCRIPT: &str = r#"
work=$1 root=$2 kernel=$3 format=$4 prefix=$5 modules=$6 packages=$8
tree=$work/tree
mkdir -p "$tree" "$work/overlay"
if ! mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/overlay" "$tree"; then
    # No overlay here (for example, on top of another one): a plain copy does as well.
    cp -a --reflink=auto "$root/." "$tree/"
    cp -a "$work/upper/." "$tree/"
fi
sed -i 's/^MODULES=.*/MODULES=list/' "$tree/etc/initramfs-tools/initramfs.conf"
ln -sf "boot/initrd.img-$kernel" "$tree/initrd.img"
rm -f "$tree"/etc/ssh/ssh_host_*.old "$tree/vmlinuz.old"
cp -r "$tree/usr/lib/grub/$format" "$tree/boot/grub/"
mount -t proc proc "$tree/proc"
if [ -n "$packages" ]; then
    # From the archive that the tree was made from.
    mount --bind /etc/resolv.conf "$tree/etc/resolv.conf"
    export DEBIAN_FRONTEND=noninteractive INITRD=No
    chroot "$tree" apt-get -q update
    chroot "$tree" apt-get -q install -y --no-install-recommends $packages
    umount "$tree/etc/resolv.conf"
    rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*.bin "$tree"/var/cache/apt/archives/*.deb
fi
chroot "$tree" update-initramfs -c -k "$kernel"
chroot "$tree" grub-mkimage -O "$format" -p "$prefix" -o /core.img $modules
umount "$tree/proc"
mv "$tree/core.img" "$work/core.img"
cp "$tree/usr/lib/grub/i386-pc/boot.img" "$work/boot.img"
if [ "$format" = i386-pc ]; then cp "$work/core.img" "$work/boot.img" "$tree/boot/grub/i386-pc/"; else mkdir -p "$tree/boot/efi"; fi
"#;

/// The finished disk.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) raw: PathBuf,
    /// The other half of a mirror.
    pub(super) mirror: Option<PathBuf>,
}

/// Builds `disk.raw` in `dir`, using `dir/work` for everything else.
pub(super) fn build(recipe: &Recipe, root: &Root, dir: &Path) -> Result<Disk> {
    let work = dir.join("work");
    let layout = Layout::of(recipe.which);
    let raw = dir.join("disk.raw");
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&raw)
        .context("creating disk.raw")?;
    disk.set_len(DISK_SECTORS * SECTOR)
        .context("sizing disk.raw")?;
    cmd::output_with_input(
        cmd::command("sfdisk", ["--quiet", "--no-reread", "--no-tell-kernel"]).arg(&raw),
        &layout.sfdisk_script(),
    )?;
    if let Some(lvm) = &layout.lvm {
        lvm::write_pv(&disk, lvm)?;
    }
    write_upper(recipe, &root.kernel, &work.join("upper"))?;
    make_trees(recipe, root, &layout, &work, &raw)?;
    write_swap(&disk, layout.swap, &work)?;
    match layout.esp {
        Some(esp) => write_esp(&disk, esp, &work)?,
        None => write_bios_loader(&disk, &work)?,
    }
    disk.sync_all().context("syncing disk.raw")?;
    let mirror = match layout.md {
        Some(member) => Some(mirror(&disk, member, &layout, &work, dir)?),
        None => None,
    };
    Ok(Disk { raw, mirror })
}

/// Makes the first disk one half of a mirror, and writes the other half.
fn mirror(disk: &File, member: Span, layout: &Layout, work: &Path, dir: &Path) -> Result<PathBuf> {
    let path = dir.join(MIRROR_NAME);
    let mirror = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .context("creating the mirror")?;
    mirror
        .set_len(DISK_SECTORS * SECTOR)
        .context("sizing the mirror")?;
    cmd::output_with_input(
        cmd::command("sfdisk", ["--quiet", "--no-reread", "--no-tell-kernel"]).arg(&path),
        &layout.mirror_script(),
    )?;
    write_bios_loader(&mirror, work)?;
    let root = layout.root.offset();
    sparse::copy(disk, root, layout.root.len(), &mirror, root)?;
    for (half, file) in [(0, disk), (1, &mirror)] {
        md::write_member(file, member, half)?;
        file.sync_all().context("syncing a half of the mirror")?;
    }
    Ok(path)
}

/// The variant's own files, as the upper layer of the overlay.
fn write_upper(recipe: &Recipe, kernel: &str, upper: &Path) -> Result<()> {
    for (path, content) in recipe.files(kernel) {
        let path = upper.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Assembles the tree and writes its ext4 file systems into the disk, in one private mount namespace.
fn make_trees(
    recipe: &Recipe,
    root: &Root,
    layout: &Layout,
    work: &Path,
    raw: &Path,
) -> Result<()> {
    let (format, modules) = recipe.grub_image();
    let mut script = TREE_SCRIPT.to_owned();
    if let Some(boot) = layout.boot {
        script += &mke2fs(boot, config::BOOT_UUID, "$tree/boot");
        script += "mount -t tmpfs tmpfs \"$tree/boot\"\n";
    }
    script += &mke2fs(layout.root, config::ROOT_UUID, "$tree");
    let mut cmd = cmd::command(
        "unshare",
        [
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-e",
            "-c",
            &script,
            "sh",
        ],
    );
    cmd.arg(work)
        .arg(&root.dir)
        .args([&root.kernel, format, recipe.grub_prefix(), modules]);
    cmd.arg(raw)
        .arg(recipe.packages())
        .env("SOURCE_DATE_EPOCH", config::EPOCH)
        .env("E2FSPROGS_FAKE_TIME", config::EPOCH);
    cmd.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("TMPDIR");
    cmd::output(&mut cmd).context("making the guest's file systems")?;
    Ok(())
}

fn mke2fs(span: Span, uuid: &str, tree: &str) -> String {
    format!(
        "mke2fs -q -F -t ext4 -O '{EXT4_FEATURES}' -U {uuid} -E 'offset={},hash_seed={uuid},lazy_itable_init=0' -d \"{tree}\" \"$7\" {}k\n",
        span.offset(),
        span.len() / 1024
    )
}

fn write_swap(disk: &File, span: Span, work: &Path) -> Result<()> {
    let path = work.join("swap");
    File::create(&path)?.set_len(span.len())?;
    cmd::output(cmd::command("chmod", ["600"]).arg(&path))?;
    cmd::output(cmd::command("mkswap", ["--uuid", config::SWAP_UUID]).arg(&path))?;
    copy_into(&path, disk, span)
}

fn write_esp(disk: &File, span: Span, work: &Path) -> Result<()> {
    let path = work.join("esp");
    File::create(&path)?.set_len(span.len())?;
    cmd::output(
        cmd::command(
            "mkfs.vfat",
            ["-F", "32", "--invariant", "-i", config::ESP_ID],
        )
        .arg(&path),
    )?;
    let cfg = work.join("grub.cfg");
    fs::write(&cfg, Recipe::esp_grub_cfg())?;
    cmd::output(
        cmd::command("mmd", ["-i"])
            .arg(&path)
            .args(["::/EFI", "::/EFI/debian"]),
    )?;
    cmd::output(
        cmd::command("mcopy", ["-i"])
            .arg(&path)
            .arg(work.join("core.img"))
            .arg("::/EFI/debian/grubx64.efi"),
    )?;
    cmd::output(
        cmd::command("mcopy", ["-i"])
            .arg(&path)
            .arg(&cfg)
            .arg("::/EFI/debian/grub.cfg"),
    )?;
    copy_into(&path, disk, span)
}

/// The boot sector, keeping the partition table, and the core image in the gap right after it: what grub-install does.
fn write_bios_loader(disk: &File, work: &Path) -> Result<()> {
    let mut boot = fs::read(work.join("boot.img")).context("reading GRUB's boot.img")?;
    let core = fs::read(work.join("core.img")).context("reading GRUB's core image")?;
    ensure!(
        boot.len() == 512,
        "GRUB's boot.img has {} bytes, expected 512",
        boot.len()
    );
    ensure!(
        (core.len() as u64) <= CORE_MAX,
        "GRUB's core image has {} bytes, at most {CORE_MAX} fit",
        core.len()
    );
    boot[DRIVE_CHECK].fill(NOP);
    disk.write_all_at(&boot[..BOOT_CODE_SIZE], 0)
        .context("writing the boot sector")?;
    disk.write_all_at(&core, SECTOR)
        .context("writing GRUB's core image")
}

/// Copies the file at `path` to `span` of the disk; blocks of zeroes stay holes.
fn copy_into(path: &Path, disk: &File, span: Span) -> Result<()> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let len = file.metadata().context("asking for a length")?.len();
    ensure!(
        len == span.len(),
        "{} does not fill its partition",
        path.display()
    );
    sparse::copy(&file, 0, len, disk, span.offset())
        .with_context(|| format!("copying {}", path.display()))
}
