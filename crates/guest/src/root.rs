//! The root directory of a mounted guest.
//!
//! A path in the guest is resolved by the kernel inside that directory (openat2 with RESOLVE_IN_ROOT): an absolute
//! symlink, or one with too many `..`, ends inside the guest as it would when the guest runs. Only regular files are
//! opened; devices, sockets and FIFOs in a hostile tree are refused before they are touched.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

mod attributes;

/// Configuration files are read whole up to this many bytes.
pub const CONFIG_MAX: u64 = 4 << 20;
/// An initramfs is read up to this many bytes.
pub const INITRD_MAX: u64 = 1 << 30;
/// A directory with more entries than this is refused.
const DIR_MAX: usize = 1 << 20;
/// As many symlinks as the kernel follows in one path (MAXSYMLINKS).
const SYMLINKS_MAX: usize = 40;
/// openat2 answers EAGAIN when a rename races with it; nothing else runs here, so a few tries are plenty.
const RETRIES: usize = 16;
/// Extended attributes are at most this long (XATTR_SIZE_MAX, linux/limits.h).
const XATTR_MAX: usize = 64 << 10;

/// The root directory of a mounted guest; every path is resolved inside it by the kernel.
///
/// Paths are as the guest sees them; a leading `/` may be left out.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

/// What a path in the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link (only where links are not followed).
    Symlink,
    /// A device, FIFO or socket.
    Other,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// What it is, links not followed.
    pub kind: Kind,
}

/// Attributes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
    /// Number of the file system.
    pub dev: u64,
    /// Number of the inode.
    pub ino: u64,
}

impl Root {
    /// Opens the directory where the guest's root file system is mounted.
    pub fn open(dir: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = fs::open(dir, flags, Mode::empty()).map_err(|error| {
            Error::io("opening the guest's root directory", error).at(dir.display())
        })?;
        Ok(Self { dir })
    }

    fn open_at(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let inside = if path.is_empty() { "/" } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RETRIES {
            match fs::openat2(
                &self.dir,
                inside,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(Error::io("opening", error).at(path)),
                Ok(fd) => return Ok(fd),
            }
        }
        Err(Error::io("opening", Errno::AGAIN).at(path))
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, path: &str) -> Result<File> {
        let meta = self.meta(path)?;
        if meta.kind != Kind::File {
            return Err(
                Error::corrupt(format!("expected a regular file, found {:?}", meta.kind)).at(path),
            );
        }
        Ok(File::from(self.open_at(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        )?))
    }

    /// Attributes of what the path leads to, links followed.
    pub fn meta(&self, path: &str) -> Result<Meta> {
        stat(&self.open_at(path, OFlags::PATH)?, path)
    }

    /// Attributes of the path itself: a link is not followed.
    pub fn link_meta(&self, path: &str) -> Result<Meta> {
        stat(&self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?, path)
    }

    /// True when the path leads to something, links followed.
    pub fn exists(&self, path: &str) -> bool {
        self.meta(path).is_ok()
    }

    /// True when the path leads to a regular file.
    pub fn is_file(&self, path: &str) -> bool {
        self.meta(path).is_ok_and(|meta| meta.kind == Kind::File)
    }

    /// True when the path leads to a directory.
    pub fn is_dir(&self, path: &str) -> bool {
        self.meta(path).is_ok_and(|meta| meta.kind == Kind::Dir)
    }

    /// Reads a file of at most `max` bytes.
    pub fn read(&self, path: &str, max: u64) -> Result<Vec<u8>> {
        let file = self.open_file(path)?;
        let mut content = Vec::new();
        file.take(max.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|error| Error::io("reading", error).at(path))?;
        if content.len() as u64 > max {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("is larger than the {max} bytes accepted"),
            )
            .at(path));
        }
        Ok(content)
    }

    /// Reads a configuration file as text, bytes that are not UTF-8 replaced; `None` when it does not exist.
    pub fn read_text(&self, path: &str) -> Result<Option<String>> {
        match self.read(path, CONFIG_MAX) {
            Ok(content) => Ok(Some(String::from_utf8_lossy(&content).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// [`read_text`](Self::read_text) for probing: a file that cannot be read is as good as none, and logged.
    pub fn text(&self, path: &str) -> Option<String> {
        self.read_text(path).unwrap_or_else(|error| {
            tracing::warn!("{}", error.chain());
            None
        })
    }

    /// Entries of a directory, sorted by name, without `.` and `..`; empty when it does not exist.
    pub fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let fd = match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let failed = |error: Errno| Error::io("listing", error).at(path);
        let mut entries = Vec::new();
        for entry in fs::Dir::new(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if entries.len() == DIR_MAX {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("has more than {DIR_MAX} entries"),
                )
                .at(path));
            }
            let name = String::from_utf8_lossy(name).into_owned();
            let kind = match entry.file_type() {
                FileType::Unknown => self
                    .link_meta(&join(path, &name))
                    .map_or(Kind::Other, |meta| meta.kind),
                known => kind_of(known),
            };
            entries.push(Entry { name, kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Names in a directory, sorted; empty when it cannot be read.
    pub fn names(&self, path: &str) -> Vec<String> {
        self.list(path)
            .unwrap_or_default()
            .into_iter()
            .map(|entry| entry.name)
            .collect()
    }

    /// Target of a symbolic link.
    pub fn read_link(&self, path: &str) -> Result<String> {
        let (parent, name) = self.parent(path)?;
        let target = fs::readlinkat(&parent, name, Vec::new())
            .map_err(|error| Error::io("reading the link", error).at(path))?;
        Ok(String::from_utf8_lossy(target.as_bytes()).into_owned())
    }

    /// Where writing to `path` ends: the path with links of its last component followed, so that a file behind a
    /// link is replaced and not the link.
    pub fn resolve_last(&self, path: &str) -> Result<String> {
        let mut at = path.to_owned();
        for _ in 0..SYMLINKS_MAX {
            let is_link = self
                .link_meta(&at)
                .is_ok_and(|meta| meta.kind == Kind::Symlink);
            if !is_link {
                return Ok(at);
            }
            let target = self.read_link(&at)?;
            // The kernel resolves the joined path from the left, so `..` in the target is taken at the link's own place.
            at = if target.starts_with('/') {
                target
            } else {
                join(split(&at)?.0, &target)
            };
        }
        Err(Error::io("following symbolic links", Errno::LOOP).at(path))
    }

    /// Replaces or creates a file: written beside it, synced, renamed. An existing file keeps its mode, owner and
    /// extended attributes; a new one gets `new_mode` and its directory's SELinux label.
    pub fn write(&self, path: &str, content: &[u8], new_mode: u32) -> Result<()> {
        self.replace(path, new_mode, |file| file.write_all(content))
    }

    /// [`write`](Self::write) with the content produced by `fill`.
    pub fn replace(
        &self,
        path: &str,
        new_mode: u32,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<()> {
        let real = self.resolve_last(path)?;
        self.replace_like(&real, &real, new_mode, fill)
    }

    /// [`replace`](Self::replace) with mode, owner and attributes of another file; links are not followed.
    pub fn replace_like(
        &self,
        path: &str,
        like: &str,
        new_mode: u32,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<()> {
        let old = match self.open_file(like) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (parent, name) = self.parent(path)?;
        let temp = temp_name();
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&parent, &temp, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| Error::io("creating a file beside", error).at(path))?;
        let mut file = File::from(fd);
        let done = fill(&mut file)
            .and_then(|()| dress(&file, old.as_ref(), &parent, new_mode))
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(fs::renameat(&parent, &temp, &parent, name)?))
            .and_then(|()| Ok(fs::fsync(&parent)?));
        done.map_err(|error| {
            // Best effort: the write has failed already, and a leftover temporary file harms nobody.
            let _ = fs::unlinkat(&parent, &temp, AtFlags::empty());
            Error::io("writing", error).at(path)
        })
    }

    /// Opens an existing regular file for appending in place.
    pub fn open_append(&self, path: &str) -> Result<File> {
        self.open_file(path)?;
        Ok(File::from(self.open_at(
            path,
            OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY,
        )?))
    }

    /// Renames within the guest; neither last component is followed.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        fs::renameat(&from_dir, from_name, &to_dir, to_name)
            .map_err(|error| Error::io(format!("renaming to {to}"), error).at(from))
    }

    /// Removes a file or symbolic link; the last component is not followed.
    pub fn remove(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        fs::unlinkat(&parent, name, AtFlags::empty())
            .map_err(|error| Error::io("removing", error).at(path))
    }

    /// Creates a symbolic link.
    pub fn symlink(&self, path: &str, target: &str) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        fs::symlinkat(target, &parent, name)
            .map_err(|error| Error::io("creating the link", error).at(path))
    }

    /// Creates a directory and the missing ones above it, mode 0755, with their parents' SELinux label.
    pub fn create_dir_all(&self, path: &str) -> Result<()> {
        if self.is_dir(path) {
            return Ok(());
        }
        let real = self.resolve_last(path)?;
        let (above, _) = split(&real)?;
        if !above.is_empty() {
            self.create_dir_all(above)?;
        }
        let (parent, name) = self.parent(&real)?;
        let failed = |error: Errno| Error::io("creating the directory", error).at(path);
        fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
        let made = self.open_at(&real, OFlags::RDONLY | OFlags::DIRECTORY)?;
        copy_label(&parent, &made);
        Ok(())
    }

    /// Bytes free, without the reserve for root, on the file system that holds the directory `path`.
    pub fn free_bytes(&self, path: &str) -> Result<u64> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let vfs = fs::fstatvfs(&fd)
            .map_err(|error| Error::io("asking for free space", error).at(path))?;
        Ok(vfs.f_bavail.saturating_mul(vfs.f_frsize))
    }

    /// True when the file or directory carries an SELinux label.
    pub fn has_label(&self, path: &str) -> bool {
        self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)
            .is_ok_and(|fd| fs::fgetxattr(&fd, SELINUX, &mut [0u8; 4096]).is_ok())
    }

    /// SELinux label of the path itself, a link not followed; `None` without one.
    pub(crate) fn label(&self, path: &str) -> Result<Option<String>> {
        let (parent, name) = self.parent(path)?;
        let mut value = [0u8; 4096];
        match fs::lgetxattr(at_fd(&parent, name), SELINUX, &mut value) {
            Err(Errno::NODATA) => Ok(None),
            Err(error) => Err(Error::io("reading the SELinux label", error).at(path)),
            Ok(len) => {
                let text = String::from_utf8_lossy(value.get(..len).unwrap_or_default());
                Ok(Some(text.trim_end_matches('\0').to_owned()))
            }
        }
    }

    /// Sets the SELinux label of the path itself, a link not followed.
    pub(crate) fn set_label(&self, path: &str, label: &str) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        // Linux keeps labels with the zero byte at their end, as libselinux sets them.
        let value = [label.as_bytes(), b"\0"].concat();
        fs::lsetxattr(at_fd(&parent, name), SELINUX, &value, XattrFlags::empty())
            .map_err(|error| Error::io("setting the SELinux label", error).at(path))
    }

    /// The path with the links of its directories followed, its last component as it is.
    pub(crate) fn real_path(&self, path: &str) -> Result<String> {
        let trimmed = path.trim_end_matches('/');
        let mut real = String::new();
        let mut left: Vec<String> = trimmed.rsplit('/').map(str::to_owned).collect();
        let mut links = 0;
        while let Some(component) = left.pop() {
            match component.as_str() {
                "" | "." => continue,
                ".." => {
                    real.truncate(real.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let at = format!("{real}/{component}");
            let meta = self.link_meta(&at)?;
            if meta.kind != Kind::Symlink || left.is_empty() {
                real = at;
                continue;
            }
            links += 1;
            if links > SYMLINKS_MAX {
                return Err(Error::io("following symbolic links", Errno::LOOP).at(path));
            }
            let target = self.read_link(&at)?;
            if target.starts_with('/') {
                real.clear();
            }
            left.extend(target.rsplit('/').map(str::to_owned));
        }
        Ok(if real.is_empty() {
            "/".to_owned()
        } else {
            real
        })
    }

    /// Directory and last component; refuses a last component that is no name.
    fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str)> {
        let (dir, name) = split(path)?;
        let parent = self
            .open_at(dir, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| error.at(path))?;
        Ok((parent, name))
    }
}

const SELINUX: &str = "security.selinux";

/// An entry of an open directory for calls that take a path only.
fn at_fd(dir: &OwnedFd, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())
}

/// `DIR/NAME` without doubling the slash.
pub(crate) fn join(dir: &str, name: &str) -> String {
    format!(
        "{}/{}",
        dir.trim_end_matches('/'),
        name.trim_start_matches('/')
    )
}

/// Directory (perhaps empty, for the root) and last component of a path.
pub(crate) fn split(path: &str) -> Result<(&str, &str)> {
    let trimmed = path.trim_end_matches('/');
    let (dir, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    if matches!(name, "" | "." | "..") {
        return Err(Error::corrupt("expected a path that ends in a name").at(path));
    }
    Ok((dir, name))
}

fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    }
}

fn stat(fd: &OwnedFd, path: &str) -> Result<Meta> {
    let stat = fs::fstat(fd).map_err(|error| Error::io("asking for attributes", error).at(path))?;
    Ok(Meta {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        len: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        dev: stat.st_dev,
        ino: stat.st_ino,
    })
}

fn temp_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = rustix::process::getpid().as_raw_nonzero();
    format!(".v2v-{id}-{}.tmp", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Gives a new file the looks of the one that it replaces, or of its directory.
fn dress(file: &File, old: Option<&File>, parent: &OwnedFd, new_mode: u32) -> std::io::Result<()> {
    let Some(old) = old else {
        fs::fchmod(file, Mode::from_raw_mode(new_mode))?;
        copy_label(parent, file);
        return Ok(());
    };
    let stat = fs::fstat(old)?;
    match fs::fchown(
        file,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    ) {
        // vfat has no owners: it refuses any but its own, which the new file has already.
        Err(Errno::PERM | Errno::INVAL) => {
            let new = fs::fstat(file)?;
            if (new.st_uid, new.st_gid) != (stat.st_uid, stat.st_gid) {
                return Err(Errno::PERM.into());
            }
        }
        other => other?,
    }
    fs::fchmod(file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(old, file)
}

/// What ntfs-3g tells of a file and does not list: its access list, and flags such as hidden (ntfs-3g(8), "extended
/// attributes").
const NTFS_ATTRIBUTES: [&str; 2] = ["system.ntfs_acl", "system.ntfs_attrib"];

fn copy_ntfs_attributes(old: &File, new: &File) -> std::io::Result<()> {
    let mut value = vec![0u8; XATTR_MAX];
    for name in NTFS_ATTRIBUTES {
        let len = match fs::fgetxattr(old, name, value.as_mut_slice()) {
            // Not NTFS, or a driver that has none.
            Err(Errno::NOTSUP | Errno::NOSYS | Errno::NODATA | Errno::INVAL | Errno::PERM) => {
                continue;
            }
            other => other?,
        };
        let value = value.get(..len).unwrap_or_default();
        fs::fsetxattr(new, name, value, XattrFlags::empty())?;
    }
    Ok(())
}

fn copy_xattrs(old: &File, new: &File) -> std::io::Result<()> {
    copy_ntfs_attributes(old, new)?;
    let mut names = vec![0u8; XATTR_MAX];
    let len = match fs::flistxattr(old, names.as_mut_slice()) {
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0u8; XATTR_MAX];
    for name in names
        .get(..len)
        .unwrap_or_default()
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = OsStr::from_bytes(name);
        let len = fs::fgetxattr(old, name, value.as_mut_slice())?;
        match fs::fsetxattr(
            new,
            name,
            value.get(..len).unwrap_or_default(),
            XattrFlags::empty(),
        ) {
            Err(Errno::NOTSUP) => {}
            other => other?,
        }
    }
    copy_ntfs(old, new, &mut value)
}

/// What ntfs-3g does not list (Using Extended Attributes, in its wiki) and a new file inherits or lacks: the DOS attributes
/// (hidden, system, archive …), the time of creation, and last, because some of the others rewrite it, the ACL.
const NTFS: [&str; 3] = [
    "system.ntfs_crtime_be",
    "system.ntfs_attrib_be",
    "system.ntfs_acl",
];

fn copy_ntfs(old: &File, new: &File, value: &mut [u8]) -> std::io::Result<()> {
    for name in NTFS {
        // Other file systems have no such name.
        if let Ok(len) = fs::fgetxattr(old, name, &mut *value) {
            let value = value.get(..len).unwrap_or_default();
            fs::fsetxattr(new, name, value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// SELinux gives a new file its directory's type unless policy says otherwise; do what the guest's kernel would.
/// A file system without labels is fine: the SELinux step then asks for a relabel.
fn copy_label(from: &impl AsFd, to: &impl AsFd) {
    let mut label = [0u8; 4096];
    if let Ok(len) = fs::fgetxattr(from, SELINUX, &mut label) {
        let label = label.get(..len).unwrap_or_default();
        if let Err(error) = fs::fsetxattr(to, SELINUX, label, XattrFlags::empty()) {
            tracing::debug!("setting an SELinux label: {error}");
        }
    }
}
