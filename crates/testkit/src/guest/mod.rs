//! Sample guests that look as if VMware had made them: Debian 12, every device name `/dev/sda*`, a static address on ens192,
//! open-vm-tools, and an initramfs without any virtio module, so that an unconverted copy does not boot on virtio.
//!
//! ```text
//! mmdebstrap ──> root-HASH/                 once, shared
//!                   │ + the variant's files (overlay mount), update-initramfs, grub-mkimage
//!                   v
//!                NAME-HASH/disk.raw ──> NAME.ova (.ovf, .mf, streamOptimized .vmdk)
//! ```
//! Building needs root (mmdebstrap, chroot and the overlay mount). It needs neither loop devices, device mapper nor KVM: file
//! systems are written from directories at their place in the disk file. The cache is keyed by a hash of the recipe.

mod config;
mod disk;
mod layout;
mod lvm;
pub mod matrix;
mod md;
mod ova;
mod root;
mod sparse;
pub mod windows;

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::places::{cache_dir, fresh_dir, lock};
use crate::skips::is_root;

/// Goes up when code that the recipe's texts do not show changes what is built.
const RECIPE_VERSION: u32 = 2;

/// Which sample guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// MBR, BIOS GRUB, ext4 root on sda1, swap on sda5.
    Bios,
    /// GPT, UEFI; the only loader is `\EFI\debian\grubx64.efi`; ext4 root on sda2, swap on sda3.
    Uefi,
    /// MBR, BIOS GRUB, `/boot` on sda1, `vg0` with `root` and `swap` on sda2.
    Lvm,
    /// MBR, BIOS GRUB, ext4 root on the mirror md0 of two disks, swap on sda5. No hypervisor exports such a machine:
    /// it has no VMDK and no OVA.
    Md,
}

impl Sample {
    /// Every sample guest.
    pub const ALL: [Self; 4] = [Self::Bios, Self::Uefi, Self::Lvm, Self::Md];

    /// Name of the machine in its OVF, and of the OVA file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "sample-bios",
            Self::Uefi => "sample-uefi",
            Self::Lvm => "sample-lvm",
            Self::Md => "sample-md",
        }
    }

    /// MAC address in the OVF. VMware's exports mostly have none, so one sample has none.
    fn mac(self) -> Option<&'static str> {
        match self {
            Self::Bios | Self::Md => None,
            Self::Uefi => Some("00:50:56:9a:2c:02"),
            Self::Lvm => Some("00:50:56:9a:2c:03"),
        }
    }
}

/// A built sample guest. The files are shared by all tests: open them read-only.
#[derive(Clone, Debug)]
pub struct SampleGuest {
    /// Name of the machine in the OVF.
    pub name: &'static str,
    /// The disk as a sparse raw file.
    pub raw: PathBuf,
    /// The other half of [`Sample::Md`], raw.
    pub mirror: Option<PathBuf>,
    /// `.ovf` first, then `.mf` (SHA256), then the disk as a streamOptimized VMDK.
    pub ova: PathBuf,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// The guest's address on ens192; it listens on port 22 there.
    pub static_ip: Ipv4Addr,
    /// Its default gateway; the network is a /24.
    pub gateway: Ipv4Addr,
    /// MAC address in the OVF.
    pub mac: Option<&'static str>,
    /// Boots by UEFI.
    pub uefi: bool,
    /// The root password, accepted on ttyS0 and by SSH.
    pub root_password: &'static str,
    /// `uname -r` of its only kernel.
    pub kernel: String,
}

/// Removes the trees that guests are built from, not the guests. The next one to be built makes its tree anew.
pub fn forget_trees() -> Result<()> {
    let cache = cache_dir();
    let mut stems = vec!["root-".to_owned()];
    stems.extend(matrix::Release::ALL.map(|release| format!("matrix-{}-", release.codename())));
    for entry in fs::read_dir(&cache).with_context(|| format!("listing {}", cache.display()))? {
        let entry = entry.with_context(|| format!("listing {}", cache.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if stems.iter().any(|stem| name.starts_with(stem)) && entry.path().is_dir() {
            fs::remove_dir_all(entry.path()).with_context(|| format!("removing {name}"))?;
        }
    }
    Ok(())
}

impl SampleGuest {
    /// Takes the VMDK out of the OVA and into `dir`.
    pub fn unpack_vmdk(&self, dir: &Path) -> Result<PathBuf> {
        ova::unpack_vmdk(&self.ova, dir)
    }
}

/// The sample guest from the cache, built now if it is not there (one to two minutes). Other processes wait meanwhile.
pub fn sample(which: Sample) -> Result<SampleGuest> {
    let recipe = config::Recipe::of(which);
    let cache = cache_dir();
    let root_id = short_hash(&[&root::recipe()]);
    let guest_id = short_hash(&[
        &root_id,
        &recipe.text(),
        &layout::Layout::of(which).sfdisk_script(),
    ]);
    let dir = cache.join(format!("{}-{guest_id}", which.name()));
    let _lock = lock(&cache, which.name())?;
    if !dir.is_dir() {
        ensure!(
            is_root(),
            "building the sample guest {} needs root (mmdebstrap, chroot, overlay mount): run as root once, then it is cached",
            which.name()
        );
        let root = root::root(&cache, &root_id)?;
        let partial = cache.join(format!("{}.partial", which.name()));
        fresh_dir(&partial)?;
        let disk = disk::build(&recipe, &root, &partial)
            .with_context(|| format!("building {}", which.name()))?;
        if disk.mirror.is_none() {
            ova::build(which, &disk, &partial)?;
        }
        fs::write(partial.join("kernel"), &root.kernel)?;
        fs::remove_dir_all(partial.join("work")).context("removing the work directory")?;
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, &dir).with_context(|| format!("renaming {}", partial.display()))?;
    }
    let kernel = fs::read_to_string(dir.join("kernel"))
        .context("reading the cached guest's kernel version")?;
    Ok(SampleGuest {
        name: which.name(),
        raw: dir.join("disk.raw"),
        mirror: (which == Sample::Md).then(|| dir.join(disk::MIRROR_NAME)),
        ova: dir.join(format!("{}.ova", which.name())),
        virtual_size: layout::DISK_SECTORS * layout::SECTOR,
        static_ip: config::STATIC_IP,
        gateway: config::GATEWAY,
        mac: which.mac(),
        uefi: which == Sample::Uefi,
        root_password: config::ROOT_PASSWORD,
        kernel,
    })
}

/// Kernel and modules folder of the samples' shared tree: what libguestfs can boot on a host that has no kernel of its own
/// (`SUPERMIN_KERNEL`, `SUPERMIN_MODULES`).
pub fn shared_kernel() -> Result<(PathBuf, PathBuf)> {
    let root = root::root(&cache_dir(), &short_hash(&[&root::recipe()]))?;
    let kernel = root.dir.join(format!("boot/vmlinuz-{}", root.kernel));
    Ok((kernel, root.dir.join("lib/modules").join(&root.kernel)))
}

fn short_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(RECIPE_VERSION.to_le_bytes());
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize()[..6])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
