//! What an initramfs carries, as far as a conversion asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;

use crate::linux::modules::module_name;
use crate::root::INITRD_MAX;
use crate::{Error, ErrorKind, Result, Root};

use super::compress::{Compression, initrd_error, read_small, unpack};
use super::cpio::{self, Entry, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Visit};

/// An initramfs unpacks to at most this many bytes.
const UNPACKED_MAX: u64 = 8 << 30;
/// Kept small files are at most this many bytes together.
const KEPT_MAX: usize = 16 << 20;

/// What built an initramfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Generator {
    InitramfsTools,
    Dracut,
    Mkinitcpio,
    Mkinitfs,
    #[default]
    Unknown,
}

/// One part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) compression: Compression,
}

/// What an initramfs carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// Its parts in order.
    pub(crate) segments: Vec<Segment>,
    /// Directories in it.
    pub(crate) dirs: BTreeSet<String>,
    /// Symbolic links at its top and their targets: `lib` -> `usr/lib`.
    pub(crate) top_links: BTreeMap<String, String>,
    /// Kernel version to names of its modules.
    pub(crate) modules: BTreeMap<String, BTreeSet<String>>,
    /// `lib/modules` or `usr/lib/modules`, wherever its modules are.
    pub(crate) module_prefix: Option<String>,
    /// Content of small files of interest.
    pub(crate) kept: BTreeMap<String, Vec<u8>>,
    /// What built it.
    pub(crate) generator: Generator,
    /// udev in it applies .link files.
    pub(crate) renames_nics: bool,
}

impl Contents {
    /// Names of the modules for this kernel.
    pub(crate) fn modules_of(&self, kver: &str) -> BTreeSet<String> {
        self.modules.get(kver).cloned().unwrap_or_default()
    }

    /// Where files of `lib/…` really are in it: an appended archive must not put a directory in place of a link.
    pub(crate) fn real_path(&self, path: &str) -> String {
        let (top, rest) = path.split_once('/').unwrap_or((path, ""));
        match self.top_links.get(top) {
            Some(target) => format!("{}/{rest}", target.trim_start_matches('/')),
            None => path.to_owned(),
        }
    }

    /// Directory of the modules of this kernel in it.
    pub(crate) fn module_dir(&self, kver: &str) -> String {
        match &self.module_prefix {
            Some(prefix) => format!("{prefix}/{kver}"),
            None => self.real_path(&format!("lib/modules/{kver}")),
        }
    }

    fn note(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let name = entry.name.as_str();
        match entry.mode & S_IFMT {
            S_IFDIR => {
                self.dirs.insert(name.to_owned());
                if matches!(name, "usr/lib/dracut" | "lib/dracut") {
                    self.generator = Generator::Dracut;
                }
            }
            S_IFLNK if !name.contains('/') => {
                let target = String::from_utf8_lossy(&read_small(data)?).into_owned();
                self.top_links.insert(name.to_owned(), target);
            }
            S_IFREG => {
                self.note_file(name);
                let size: usize = self.kept.values().map(Vec::len).sum();
                if is_of_interest(name) && size < KEPT_MAX {
                    self.kept.insert(name.to_owned(), read_small(data)?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn note_file(&mut self, name: &str) {
        match name {
            "conf/initramfs.conf" | "scripts/functions" => {
                self.generator = Generator::InitramfsTools
            }
            "etc/mkinitfs/mkinitfs.conf" | "sbin/nlplug-findfs" | "usr/sbin/nlplug-findfs" => {
                self.generator = Generator::Mkinitfs;
            }
            "buildconfig" | "init_functions" => self.generator = Generator::Mkinitcpio,
            _ if name.ends_with("/udev/rules.d/80-net-setup-link.rules") => {
                self.renames_nics = true
            }
            _ if name.starts_with("usr/lib/dracut/") => self.generator = Generator::Dracut,
            _ => {}
        }
        for prefix in ["lib/modules", "usr/lib/modules"] {
            let below = name
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('/'));
            if let Some((kver, path)) = below.and_then(|below| below.split_once('/'))
                && let Some(module) = module_name(path)
            {
                self.modules
                    .entry(kver.to_owned())
                    .or_default()
                    .insert(module);
                self.module_prefix = Some(prefix.to_owned());
            }
        }
    }
}

/// Files whose content a conversion looks at or replaces.
fn is_of_interest(name: &str) -> bool {
    matches!(
        name,
        "conf/modules"
            | "conf/param.conf"
            | "cryptroot/crypttab"
            | "etc/crypttab"
            | "etc/fstab"
            | "etc/lvm/lvmlocal.conf"
    ) || name == "etc/lvm/devices/system.devices"
        || name.starts_with("conf/conf.d/")
        || name.starts_with("etc/cmdline.d/")
        || (name.starts_with("etc/systemd/network/") && name.ends_with(".link"))
}

/// Reads all of an initramfs.
pub(crate) fn contents(root: &Root, path: &str) -> Result<Contents> {
    let mut contents = Contents::default();
    let segments = for_each(root, path, &mut |entry, data| contents.note(entry, data))?;
    contents.segments = segments;
    Ok(contents)
}

/// Gives every entry of every part to `visit`; returns the parts.
pub(crate) fn for_each(root: &Root, path: &str, visit: &mut Visit<'_>) -> Result<Vec<Segment>> {
    let file = root.open_file(path)?;
    let len = file
        .metadata()
        .map_err(|error| Error::io("asking for the length", error).at(path))?
        .len();
    if len > INITRD_MAX {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("is larger than the {INITRD_MAX} bytes accepted"),
        )
        .at(path));
    }
    walk(file, visit).map_err(|error| initrd_error(path, error))
}

fn walk(file: File, visit: &mut Visit<'_>) -> io::Result<Vec<Segment>> {
    let mut reader = BufReader::with_capacity(128 << 10, file);
    let mut segments = Vec::new();
    let mut offset = 0;
    while let Some(start) = skip_zeroes(reader.get_ref(), offset)? {
        let mut magic = [0u8; 6];
        let have = reader.get_ref().read_at(&mut magic, start)?;
        let compression =
            Compression::detect(magic.get(..have).unwrap_or_default()).ok_or_else(|| {
                let message =
                    format!("expected an archive at {start:#x}, found bytes {magic:02x?}");
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?;
        reader.seek(io::SeekFrom::Start(start))?;
        unpack(compression, &mut reader, &mut |data| match compression {
            Compression::None => cpio::read_archive(data, visit),
            _ => cpio::read_archives(&mut data.take(UNPACKED_MAX), visit),
        })?;
        segments.push(Segment {
            offset: start,
            compression,
        });
        offset = reader.stream_position()?;
        if offset <= start {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an archive of no length",
            ));
        }
    }
    Ok(segments)
}

/// Offset of the next byte that is not zero; `None` at the end.
fn skip_zeroes(file: &File, mut offset: u64) -> io::Result<Option<u64>> {
    let mut buffer = [0u8; 4096];
    loop {
        let len = file.read_at(&mut buffer, offset)?;
        let read = buffer.get(..len).unwrap_or_default();
        if let Some(at) = read.iter().position(|&byte| byte != 0) {
            return Ok(Some(offset + at as u64));
        }
        if len == 0 {
            return Ok(None);
        }
        offset += len as u64;
    }
}
