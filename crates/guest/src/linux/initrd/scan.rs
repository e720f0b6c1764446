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
/// Module lists are at most this many bytes together: those of a distribution's whole kernel have 6 MiB.
const LISTS_MAX: u64 = 64 << 20;
/// A longer /init is a program and no script.
const INIT_MAX: u32 = 256 << 10;
/// What the boot configuration at the end of an initramfs ends in (Documentation/admin-guide/bootconfig.rst). It must
/// stay the last thing in the file.
const BOOTCONFIG: &[u8; 12] = b"#BOOTCONFIG\n";

/// What built an initramfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Generator {
    InitramfsTools,
    Dracut,
    Mkinitcpio,
    Mkinitfs,
    /// mkinitrd of SLES 10 and 11.
    SuseMkinitrd,
    /// mkinitrd of Red Hat up to RHEL 5: a script for nash.
    Nash,
    Booster,
    Genkernel,
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
    /// Modules that lie all in one directory, without the kernel's version, and that directory: `lib` for nash,
    /// `usr/lib/modules` for booster.
    pub(crate) flat: BTreeSet<String>,
    /// `lib/modules` or `usr/lib/modules`, wherever its modules are.
    pub(crate) module_prefix: Option<String>,
    /// Content of small files of interest.
    pub(crate) kept: BTreeMap<String, Vec<u8>>,
    /// The lists of modules that lie beside them, `modules.…`, by their paths.
    pub(crate) lists: BTreeMap<String, Vec<u8>>,
    /// What built it.
    pub(crate) generator: Generator,
    /// udev in it applies .link files.
    pub(crate) renames_nics: bool,
    /// udev in it loads drivers by the aliases of devices.
    pub(crate) has_udev: bool,
    /// systemd in it reads modules-load.d.
    pub(crate) loads_lists: bool,
}

impl Contents {
    /// Names of the modules for this kernel.
    pub(crate) fn modules_of(&self, kver: &str) -> BTreeSet<String> {
        let mut modules = self.modules.get(kver).cloned().unwrap_or_default();
        modules.extend(self.flat.iter().cloned());
        modules
    }

    /// Directory of all modules, where the generator puts them flat.
    pub(crate) fn flat_dir(&self) -> Option<&'static str> {
        match self.generator {
            // Fedora 9 to 11 have a nash that runs modprobe, and modules where everybody has them.
            Generator::Nash if self.modules.is_empty() => Some("lib"),
            Generator::Booster => Some("usr/lib/modules"),
            _ => None,
        }
    }

    /// What its parts are packed by, without the microcode at its front.
    pub(crate) fn main_compression(&self) -> Compression {
        let mut packed = self.segments.iter().map(|segment| segment.compression);
        packed
            .find(|kind| *kind != Compression::None)
            .unwrap_or(Compression::None)
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
                if is_module_list(name) {
                    let size: usize = self.lists.values().map(Vec::len).sum();
                    let left = LISTS_MAX.saturating_sub(size as u64);
                    if u64::from(entry.len) <= left {
                        let mut list = Vec::new();
                        data.take(left).read_to_end(&mut list)?;
                        self.lists.insert(name.to_owned(), list);
                    }
                    return Ok(());
                }
                let size: usize = self.kept.values().map(Vec::len).sum();
                let is_script = name != "init" || entry.len < INIT_MAX;
                if is_of_interest(name) && is_script && size < KEPT_MAX {
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
            "run_all.sh" | "config/start.sh" => self.generator = Generator::SuseMkinitrd,
            "etc/booster.init.yaml" => self.generator = Generator::Booster,
            "etc/initrd.scripts" => self.generator = Generator::Genkernel,
            // dracut 004 of RHEL 6.
            "lib/dracut-lib.sh" => self.generator = Generator::Dracut,
            _ if name.ends_with("/udev/rules.d/80-net-setup-link.rules") => {
                self.renames_nics = true
            }
            _ if name.starts_with("usr/lib/dracut/") => self.generator = Generator::Dracut,
            _ => {}
        }
        let program = name.rsplit('/').next().unwrap_or_default();
        self.has_udev |= matches!(program, "udevd" | "systemd-udevd");
        self.loads_lists |= program == "systemd-modules-load";
        if let Some((dir, file)) = name.rsplit_once('/')
            && matches!(dir, "lib" | "usr/lib/modules")
        {
            self.flat.extend(module_name(file));
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

/// `lib/modules/KVER/modules.…`.
fn is_module_list(name: &str) -> bool {
    let Some((dir, file)) = name.rsplit_once('/') else {
        return false;
    };
    let parent = dir.rsplit_once('/').map(|(parent, _)| parent);
    file.starts_with("modules.") && matches!(parent, Some("lib/modules" | "usr/lib/modules"))
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
            | "etc/modules"
            | "etc/modules-load.d/v2v-virtio.conf"
            | "etc/modules/scsi"
            | "etc/modules/virtio"
            | "etc/booster.init.yaml"
            | "usr/lib/modules/booster.alias"
            | "config"
            | "config/start.sh"
            | "run_all.sh"
            | "init"
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
    let script = contents.kept.get("init");
    if script.is_some_and(|script| first_line(script).ends_with(b"/nash")) {
        contents.generator = Generator::Nash;
    }
    if contents.flat_dir().is_none() {
        contents.flat.clear();
    }
    Ok(contents)
}

fn first_line(script: &[u8]) -> &[u8] {
    let line = script.split(|&byte| byte == b'\n').next();
    line.unwrap_or_default().trim_ascii_end()
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
    if ends_in_bootconfig(&file, len) {
        let message = "ends in a boot configuration, behind which nothing may be put";
        return Err(Error::new(ErrorKind::Unsupported, message).at(path));
    }
    walk(file, visit).map_err(|error| initrd_error(path, error))
}

fn ends_in_bootconfig(file: &File, len: u64) -> bool {
    let mut end = [0u8; BOOTCONFIG.len()];
    let at = len.saturating_sub(BOOTCONFIG.len() as u64);
    file.read_exact_at(&mut end, at).is_ok() && end == *BOOTCONFIG
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
    if segments.is_empty() {
        let message = "expected an archive, found none";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(segments)
}

/// Loaders and generators pad to a multiple of some KiB; a sparse file of nothing is no initramfs.
const ZEROES_MAX: u64 = 64 << 20;

/// Offset of the next byte that is not zero; `None` at the end.
fn skip_zeroes(file: &File, mut offset: u64) -> io::Result<Option<u64>> {
    let mut buffer = [0u8; 4096];
    let end = offset.saturating_add(ZEROES_MAX);
    loop {
        if offset >= end {
            let message = format!("more than {ZEROES_MAX} zeroes in a row");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
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
