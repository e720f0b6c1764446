//! Mounts file systems of the guest below /guest.
//!
//! Everything is mounted nosuid, nodev, noexec. A mount point is looked up inside the guest's root by the kernel
//! (openat2 RESOLVE_IN_ROOT), so a symlink in a hostile guest leads nowhere else.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use types::Mountpoint;

use crate::ntfs3g;
use crate::storage::Storage;
use crate::tool::Tool;

/// Where the guest's root is mounted.
pub(crate) const GUEST: &str = "/guest";
/// Where volumes are mounted that a Windows boots from and does not show in its tree.
pub(crate) const BOOT: &str = "/boot-volume";
/// Without these a guest can't be converted; another file system that can't be mounted is only left out.
const ESSENTIAL: &[&str] = &["/", "/boot", "/boot/efi", "/efi", "/usr", "/var", "/etc"];

/// How a file system is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read-only, its journal left alone.
    Peek,
    /// Read-only; its journal is replayed.
    Read,
    /// Writable.
    Write,
    /// Writable; of NTFS a journal that was not closed and a hibernated session are lost by it.
    Force,
}

impl Access {
    /// True when something may be written.
    pub(crate) fn is_writable(self) -> bool {
        matches!(self, Access::Write | Access::Force)
    }
}

/// The kernel's name of the driver for what blkid calls `content`, if the appliance has it.
pub(crate) fn driver(content: &str) -> Option<&'static str> {
    match content {
        "ext2" | "ext3" | "ext4" => Some("ext4"),
        "xfs" => Some("xfs"),
        "btrfs" => Some("btrfs"),
        "vfat" => Some("vfat"),
        "ntfs" if ntfs3g::is_present() => Some("ntfs-3g"),
        "f2fs" if is_supported("f2fs") => Some("f2fs"),
        "jfs" if is_supported("jfs") => Some("jfs"),
        "reiserfs" if is_supported("reiserfs") => Some("reiserfs"),
        _ => None,
    }
}

/// True when the kernel has this driver, or the image has its module.
pub(crate) fn is_supported(driver: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.trim() == driver) {
        return true;
    }
    let loaded = Tool::new("/usr/sbin/modprobe").args(["-q", driver]).run();
    loaded.is_ok_and(|outcome| outcome.code() == Some(0))
}

fn options(driver: &str, access: Access, extra: &str) -> String {
    let own = match (driver, access) {
        ("ext4", Access::Peek) => "noload",
        ("xfs", Access::Peek) => "norecovery,nouuid",
        // A clone on another disk has the same UUID.
        ("xfs", _) => "nouuid",
        ("btrfs", Access::Peek) => "rescue=nologreplay",
        ("f2fs", Access::Peek) => "norecovery",
        ("vfat", _) => "utf8=1",
        _ => "",
    };
    [own, extra]
        .iter()
        .filter(|part| !part.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(",")
}

/// Mounts what is on `node`, called `name` in messages, at `target`.
pub(crate) fn mount(
    node: &Path,
    name: &str,
    content: &str,
    target: &Path,
    access: Access,
    extra: &str,
) -> Result<()> {
    let driver = driver(content)
        .with_context(|| format!("the appliance can't mount {name}: it holds `{content}`"))?;
    if driver == "ntfs-3g" {
        ntfs3g::mount(node, name, target, access)?;
        if access.is_writable() && is_read_only(target)? {
            unmount_below(&target.display().to_string())?;
            return Err(only_readable(name, content, Some(crate::volume::UNCLEAN)));
        }
        return Ok(());
    }
    let mut flags =
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    if !access.is_writable() {
        flags |= MountFlags::RDONLY;
    }
    let data = CString::new(options(driver, access, extra)).context("mount options")?;
    let mut log = KernelLog::from_now();
    rustix::mount::mount(node, target, driver, flags, data.as_c_str()).map_err(|error| {
        let node = node.file_name().unwrap_or_default().to_string_lossy();
        match log.last_about(&node) {
            Some(line) => anyhow::anyhow!(
                "mounting {name} ({content}): {error}: {}",
                line.replace(&*node, name)
            ),
            None => anyhow::anyhow!("mounting {name} ({content}): {error}"),
        }
    })?;
    if access.is_writable() && is_read_only(target)? {
        // A driver that finds damage may mount all the same, and not let anything be written.
        let _ = rustix::mount::unmount(target, UnmountFlags::DETACH);
        let node = node.file_name().unwrap_or_default().to_string_lossy();
        let why = log.last_about(&node).map(|line| line.replace(&*node, name));
        return Err(only_readable(name, content, why.as_deref()));
    }
    Ok(())
}

fn only_readable(name: &str, content: &str, why: Option<&str>) -> anyhow::Error {
    let why = why.unwrap_or("its driver does not say why");
    anyhow::anyhow!("{name} ({content}) can only be mounted read-only: {why}")
}

/// True when nothing can be written there, by its mount or by the file system itself (statvfs(3), `ST_RDONLY`): as ext4
/// makes itself with `errors=remount-ro`.
pub(crate) fn is_read_only(path: &Path) -> Result<bool> {
    let state = rustix::fs::statvfs(path)
        .with_context(|| format!("looking at the file system of {}", path.display()))?;
    Ok(state.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// A guest's file systems, root first. Dropping it unmounts them.
pub(crate) struct GuestMounts<'a> {
    storage: &'a Storage,
    access: Access,
    mounted: bool,
}

impl<'a> GuestMounts<'a> {
    /// Nothing mounted yet.
    pub(crate) fn new(storage: &'a Storage, access: Access) -> Self {
        GuestMounts {
            storage,
            access,
            mounted: false,
        }
    }

    /// Mounts one more; the root comes first. True if it is mounted now, false if it can do without.
    pub(crate) fn mount(&mut self, mountpoint: &Mountpoint, root_options: &str) -> Result<bool> {
        match self.try_mount(mountpoint, root_options) {
            Ok(()) => Ok(true),
            Err(error) if ESSENTIAL.contains(&mountpoint.path.as_str()) => Err(error),
            Err(error) => {
                tracing::warn!("left out: {error:#}");
                Ok(false)
            }
        }
    }

    fn try_mount(&mut self, mountpoint: &Mountpoint, root_options: &str) -> Result<()> {
        let node = self.storage.node(&mountpoint.device)?;
        let Mountpoint {
            device,
            path,
            fs_type,
        } = mountpoint;
        if path == "/" {
            mount(
                node,
                device,
                fs_type,
                GUEST.as_ref(),
                self.access,
                root_options,
            )?;
            self.mounted = true;
            return Ok(());
        }
        let extra = match fs_type.as_str() {
            "btrfs" => self.subvolume(path)?,
            _ => String::new(),
        };
        let target = self
            .resolve(path)
            .with_context(|| format!("looking up the mount point {path} of {device}"))?;
        let target = format!("/proc/self/fd/{}", target.as_raw_fd());
        mount(node, device, fs_type, target.as_ref(), self.access, &extra)
    }

    /// Mounts a volume beside the guest's tree.
    pub(crate) fn mount_boot(&self, device: &str, index: usize) -> Result<guest::Root> {
        let content = self
            .storage
            .map()
            .get(device)
            .map_or("", |device| device.content.as_str());
        let target = format!("{BOOT}/{index}");
        fs::create_dir_all(&target).with_context(|| format!("creating {target}"))?;
        let (node, access) = (self.storage.node(device)?, self.access);
        mount(node, device, content, target.as_ref(), access, "")?;
        guest::Root::open(target.as_ref()).with_context(|| format!("opening {device}"))
    }

    /// Fails when a file system stopped taking writes since it was mounted.
    pub(crate) fn still_writable(&self) -> Result<()> {
        let table = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
        for target in mounted_below(&table, GUEST)
            .into_iter()
            .chain(mounted_below(&table, BOOT))
        {
            if is_read_only(target.as_ref())? {
                let path = target.strip_prefix(GUEST).filter(|path| !path.is_empty());
                bail!(
                    "the file system on {} was made read-only by its driver, which found it damaged; run fsck in the guest first",
                    path.unwrap_or("/")
                );
            }
        }
        Ok(())
    }

    /// The guest's root, with everything mounted below it.
    pub(crate) fn root(&self) -> Result<guest::Root> {
        guest::Root::open(GUEST.as_ref()).context("opening the guest's root")
    }

    /// Unmounts everything; a file system that can't be unmounted would be left inconsistent.
    pub(crate) fn unmount(mut self) -> Result<()> {
        self.mounted = false;
        unmount_below(BOOT).and(unmount_below(GUEST))
    }

    fn resolve(&self, path: &str) -> Result<OwnedFd> {
        let root = rustix::fs::open(
            GUEST,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(
            &root,
            path,
            flags,
            Mode::empty(),
            resolve,
        )?)
    }

    /// `subvol=…` or `subvolid=…` that the guest's own fstab gives for `path`.
    fn subvolume(&self, path: &str) -> Result<String> {
        let fstab = self.root()?.read_text("/etc/fstab")?.unwrap_or_default();
        Ok(fstab_subvolume(&fstab, path).unwrap_or_default())
    }
}

impl Drop for GuestMounts<'_> {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = unmount_below(BOOT).and(unmount_below(GUEST))
        {
            tracing::warn!("{error:#}");
        }
    }
}

fn fstab_subvolume(fstab: &str, path: &str) -> Option<String> {
    fstab
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (target, options) = (fields.get(1)?, fields.get(3)?);
            let same = target.trim_end_matches('/') == path.trim_end_matches('/');
            let subvolume = options
                .split(',')
                .find(|option| option.starts_with("subvol=") || option.starts_with("subvolid="))?;
            same.then(|| subvolume.to_owned())
        })
}

/// Where something is mounted at and below `dir`, in the order of mounting.
pub(crate) fn below(dir: &str) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
    Ok(mounted_below(&table, dir))
}

/// Unmounts everything at and below `dir`, the last mount first.
pub(crate) fn unmount_below(dir: &str) -> Result<()> {
    for target in below(dir)?.into_iter().rev() {
        let mut tries = 0;
        while let Err(error) = rustix::mount::unmount(target.as_str(), UnmountFlags::NOFOLLOW) {
            tries += 1;
            if tries > 50 || error != rustix::io::Errno::BUSY {
                bail!("unmounting {target}: {error}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    ntfs3g::settle()
}

/// Field 5 of /proc/self/mountinfo (proc(5)); blanks, tabs, newlines and backslashes are octal there.
fn mounted_below(table: &str, dir: &str) -> Vec<String> {
    let targets = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape_octal);
    targets
        .filter(|target| target == dir || target.starts_with(&format!("{dir}/")))
        .collect()
}

/// Undoes the escapes of /proc/self/mountinfo.
pub(crate) fn unescape_octal(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escape, char) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        plain = plain.replace(escape, char);
    }
    plain
}

/// What the kernel says about a mount that fails; the error number alone is `EINVAL` for most.
struct KernelLog(Option<File>);

impl KernelLog {
    fn from_now() -> Self {
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(nonblocking)
            .open("/dev/kmsg");
        let at_end = file.and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        KernelLog(at_end.ok())
    }

    /// The last message that names the device, without its prefix `PRIORITY,SEQUENCE,TIME,FLAGS;`.
    fn last_about(&mut self, device: &str) -> Option<String> {
        let file = self.0.as_mut()?;
        let mut found = None;
        let mut record = [0u8; 8192];
        // One read is one record; the end is EAGAIN.
        while let Ok(len @ 1..) = file.read(&mut record) {
            let text = String::from_utf8_lossy(record.get(..len)?).into_owned();
            let line = text.lines().next().unwrap_or_default();
            let message = line.split_once(';').map_or(line, |(_, message)| message);
            if message.contains(device) {
                found = Some(message.to_owned());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peeking_never_replays() {
        assert_eq!(options("ext4", Access::Peek, ""), "noload");
        assert_eq!(options("ext4", Access::Write, ""), "");
        assert_eq!(
            options("btrfs", Access::Peek, "subvol=@"),
            "rescue=nologreplay,subvol=@"
        );
    }

    #[test]
    fn mounts_below_the_guest_are_found_in_order() {
        let table = "1 1 0:1 / / rw - rootfs rootfs rw\n\
            20 1 254:1 / /guest rw,noatime - ext4 /dev/vda1 rw\n\
            21 20 254:2 / /guest/my\\040boot rw - ext4 /dev/vda2 rw\n\
            22 1 0:5 / /guestbook rw - tmpfs tmpfs rw\n";
        assert_eq!(mounted_below(table, "/guest"), ["/guest", "/guest/my boot"]);
    }

    #[test]
    fn fstab_names_the_subvolume_of_a_path() {
        let fstab = "# UUID=1 /home btrfs subvol=@no 0 0\nUUID=1 / btrfs defaults,subvol=@ 0 0\nUUID=1\t/home/\tbtrfs\tsubvol=@home,compress=zstd 0 0\nUUID=1 /srv btrfs noatime,subvolid=260 0 0\n";
        assert_eq!(
            fstab_subvolume(fstab, "/home").as_deref(),
            Some("subvol=@home")
        );
        assert_eq!(fstab_subvolume(fstab, "/").as_deref(), Some("subvol=@"));
        assert_eq!(
            fstab_subvolume(fstab, "/srv").as_deref(),
            Some("subvolid=260")
        );
        assert_eq!(fstab_subvolume(fstab, "/var"), None);
    }
}
