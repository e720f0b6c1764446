//! NTFS volumes beside their driver: whether they were closed, what of them need not be copied, and the numbers in their
//! boot sectors for old systems.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use appliance::ntfs::{self, BootSector, Content, Extent, Geometry, Volume};
use rustix::fs::FallocateFlags;
use types::{BlockDevice, Change, Concern, DeviceKind, GuestInfo, Severity};

use crate::storage::Storage;
use crate::tool::Tool;

/// What is said of a volume whose journal holds what its files do not.
pub(crate) const UNCLEAN: &str = "it was not closed by Windows, and its journal holds changes that only Windows can \
    finish: start Windows, run `chkdsk C: /f` if it asks for it, shut it down with `shutdown /s /t 0`, and convert again; \
    --force-hibernated converts it without these changes";
/// What is said of a volume whose system sleeps.
pub(crate) const HIBERNATED: &str = "a Windows sleeps on it (hibernation or fast startup): start Windows, run \
    `powercfg /h off` as administrator, shut it down with `shutdown /s /t 0`, and convert again; --force-hibernated \
    converts it without what it had in memory";

/// Runs of free clusters that are shorter are copied: telling the host of them costs more.
const WORTH: u64 = 64 << 10;
/// A volume without zero-writes ([`Discard`]) is told of this many runs, the first that are 1 MiB long.
const BY_PROGRAM: u64 = 4096;
const WORTH_A_PROGRAM: u64 = 1 << 20;

/// How Windows left a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Nothing in the journal is to be replayed.
    pub(crate) is_closed: bool,
    /// Windows wants to check it.
    pub(crate) is_dirty: bool,
}

/// Reads it from the unmounted device.
pub(crate) fn state(storage: &Storage, device: &BlockDevice) -> Result<State> {
    let file = open(storage.node(&device.name)?, false)?;
    let read = || -> ntfs::Result<State> {
        let volume = Volume::open(&file, device.virtual_size)?;
        Ok(State {
            is_closed: volume.is_closed()?,
            is_dirty: volume.is_dirty()?,
        })
    };
    read().with_context(|| format!("looking at {}", device.name))
}

/// What the administrator should know of a volume before a conversion; nothing of other file systems.
pub(crate) fn concerns_of(storage: &Storage, device: &BlockDevice) -> Vec<Concern> {
    if device.content != "ntfs" {
        return Vec::new();
    }
    let (severity, what, fix) = match state(storage, device) {
        Ok(State {
            is_closed: false, ..
        }) => (Severity::Blocker, "was not closed".to_owned(), UNCLEAN),
        Ok(State { is_dirty: true, .. }) => (
            Severity::Warning,
            "is marked as dirty: Windows will check it at its next start".to_owned(),
            "run `chkdsk C: /f` and shut Windows down before the conversion",
        ),
        Ok(_) => return Vec::new(),
        Err(error) => (
            Severity::Warning,
            format!("is not sound: {error:#}"),
            "run `chkdsk C: /f` in Windows before the conversion",
        ),
    };
    vec![Concern {
        severity,
        what: format!("the NTFS volume {} {what}", device.name),
        fix: Some(fix.into()),
    }]
}

/// Adds them to what is known of the guest. That a volume was not closed needs no word of its own where its system sleeps.
pub(crate) fn add_concerns(guest: &mut GuestInfo, concerns: Vec<Concern>) {
    let is_blocked = guest
        .concerns
        .iter()
        .any(|concern| concern.severity == Severity::Blocker);
    let new = concerns
        .into_iter()
        .filter(|concern| !(is_blocked && concern.severity == Severity::Blocker));
    guest.concerns.extend(new);
}

/// How the volume was left, if it may be written to.
pub(crate) fn writable(storage: &Storage, name: &str, is_forced: bool) -> Result<State> {
    let device = storage
        .map()
        .get(name)
        .with_context(|| format!("no device {name}"))?;
    let state = state(storage, device)?;
    if !state.is_closed && !is_forced {
        bail!("the NTFS volume {name} can't be written to: {UNCLEAN}");
    }
    Ok(state)
}

/// After a conversion: the file system is consistent as far as ntfsfix looks, and was not marked as dirty.
pub(crate) fn verify(node: &Path, name: &str, was_dirty: bool) -> Result<()> {
    let outcome = Tool::new("/usr/bin/ntfsfix").arg("-n").arg(node).run()?;
    if outcome.code() != Some(0) {
        bail!(
            "the ntfs file system on {name} is damaged, as a check after its conversion finds ({}); nothing was copied; run \
             `chkdsk C: /f` in the guest first",
            outcome.complaint()
        );
    }
    let file = open(node, false)?;
    let len = size(&file)?;
    let volume = Volume::open(&file, len).with_context(|| format!("looking at {name}"))?;
    if volume.is_dirty()? && !was_dirty {
        bail!(
            "the ntfs file system on {name} was marked as dirty by its conversion; nothing was copied"
        );
    }
    Ok(())
}

/// Discards free clusters, and the contents of paging files. Gives the bytes.
pub(crate) fn trim(storage: &Storage, device: &BlockDevice) -> Result<u64> {
    let state = state(storage, device)?;
    if !state.is_closed || state.is_dirty {
        bail!("its bitmap is not to be believed: it was not closed, or is marked as dirty");
    }
    let node = storage.node(&device.name)?;
    let file = open(node, true)?;
    let volume = Volume::open(&file, device.virtual_size)?;
    let cluster = volume.boot().cluster_size;
    let mut discard = Discard::new(&file, node);
    let mut failed = None;
    let free = volume.free(WORTH.div_ceil(cluster), &mut |first, count| {
        discard
            .run(first * cluster, count * cluster)
            .map_err(|error| {
                failed = Some(error);
                ntfs::Error::Other("discarding failed".into())
            })
    });
    match failed {
        Some(error) => return Err(error),
        None => free?,
    }
    for Content { name, extents, .. } in volume.needless()? {
        let before = discard.total;
        for Extent { first, clusters } in extents {
            if let Some(first) = first {
                discard.run(first * cluster, clusters * cluster)?;
            }
        }
        tracing::debug!(
            "{}: content of {name}: {} bytes",
            device.name,
            discard.total - before
        );
    }
    file.sync_all()
        .with_context(|| format!("flushing {}", device.name))?;
    Ok(discard.total)
}

/// Makes ranges of a device zeroes that need not be stored. fallocate(2) does it on a device that can write zeroes
/// (block/fops.c of Linux, `blkdev_fallocate`); dm-crypt cannot, and has to be told by the ioctl that blkdiscard uses.
struct Discard<'a> {
    file: &'a File,
    node: &'a Path,
    total: u64,
    by_program: Option<u64>,
}

impl<'a> Discard<'a> {
    fn new(file: &'a File, node: &'a Path) -> Self {
        Discard {
            file,
            node,
            total: 0,
            by_program: None,
        }
    }

    fn run(&mut self, offset: u64, len: u64) -> Result<()> {
        if self.by_program.is_none() {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(self.file, flags, offset, len) {
                Ok(()) => {
                    self.total += len;
                    return Ok(());
                }
                Err(rustix::io::Errno::OPNOTSUPP) => self.by_program = Some(0),
                Err(error) => bail!("discarding {len} bytes at {offset:#x}: {error}"),
            }
        }
        let runs = self.by_program.unwrap_or_default();
        if len < WORTH_A_PROGRAM || runs >= BY_PROGRAM {
            return Ok(());
        }
        self.by_program = Some(runs + 1);
        Tool::new("/usr/sbin/blkdiscard")
            .args(["--force", "--offset", &offset.to_string()])
            .args(["--length", &len.to_string()])
            .arg(self.node)
            .run()?
            .success()?;
        self.total += len;
        Ok(())
    }
}

fn open(node: &Path, write: bool) -> Result<File> {
    File::options()
        .read(true)
        .write(write)
        .open(node)
        .with_context(|| format!("opening {}", node.display()))
}

fn size(file: &File) -> Result<u64> {
    rustix::fs::seek(file, rustix::fs::SeekFrom::End(0)).context("asking for the size of a device")
}

/// BIOS addresses disks of more than 8 GB with these (and SeaBIOS gives every disk of that size them).
const HEADS: u16 = 255;
const SECTORS: u16 = 63;

/// Windows XP and 2003 (and 2000) believe what their boot sector says of the disk, which was another hypervisor's: with the
/// wrong heads they stop at "A disk read error occurred". Later ones do not look.
pub(crate) fn fix_geometry(storage: &Storage, guest: &GuestInfo) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    let Some(windows) = guest.windows.as_ref().filter(|windows| windows.major < 6) else {
        return Ok(changes);
    };
    let boot = windows.boot_device.as_deref();
    for name in boot.into_iter().chain([guest.root.as_str()]) {
        let Some(device) = storage.map().get(name) else {
            continue;
        };
        if device.content == "ntfs" && matches!(device.kind, DeviceKind::Partition { .. }) {
            let node = storage.node(name)?;
            let start = storage.start_of(name)?;
            changes.extend(
                fix_one(node, name, start)
                    .with_context(|| format!("correcting the boot sector of {name}"))?,
            );
        }
    }
    Ok(changes)
}

fn fix_one(node: &Path, name: &str, start: u64) -> Result<Option<Change>> {
    let file = open(node, true)?;
    let len = size(&file)?;
    let mut sector = vec![0; 512];
    file.read_exact_at(&mut sector, 0)?;
    let boot = BootSector::parse(&sector, len)?;
    let right = Geometry {
        sectors: SECTORS,
        heads: HEADS,
        hidden: u32::try_from(start / boot.sector_size).unwrap_or(boot.geometry.hidden),
    };
    if boot.geometry == right {
        return Ok(None);
    }
    let changed = BootSector::with_geometry(&sector, right);
    // The copy is in the sector behind the last, if it is one.
    let copy_at = boot.sectors * boot.sector_size;
    let mut copy = vec![0; 512];
    if file.read_exact_at(&mut copy, copy_at).is_ok() && copy == sector {
        file.write_all_at(&changed, copy_at)?;
    }
    file.write_all_at(&changed, 0)?;
    file.sync_all()?;
    let show = |geometry: Geometry| {
        format!(
            "{} heads, {} sectors, {} hidden",
            geometry.heads, geometry.sectors, geometry.hidden
        )
    };
    Ok(Some(Change {
        step: "boot-sector".into(),
        path: name.into(),
        before: Some(show(boot.geometry)),
        after: Some(show(right)),
        why: "this Windows starts by the heads and hidden sectors that its boot sector names"
            .into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume of 1 MiB that has only a boot sector and its copy.
    fn sector() -> Vec<u8> {
        let mut sector = vec![0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        put(3, b"NTFS    ");
        put(0x0b, &[0, 2, 8]);
        put(0x18, &[63, 0, 16, 0, 0, 0, 0, 0]);
        put(0x28, &2047u64.to_le_bytes());
        put(0x30, &4u64.to_le_bytes());
        put(0x40, &[0xf6]);
        put(0x44, &[1]);
        put(510, &[0x55, 0xaa]);
        sector
    }

    #[test]
    fn wrong_geometry_is_corrected_in_both_copies_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volume");
        let mut bytes = vec![0u8; 1 << 20];
        bytes[..512].copy_from_slice(&sector());
        bytes[(1 << 20) - 512..].copy_from_slice(&sector());
        std::fs::write(&path, &bytes).unwrap();
        let change = fix_one(&path, "/dev/sda1", 63 * 512).unwrap().unwrap();
        assert_eq!(change.before.unwrap(), "16 heads, 63 sectors, 0 hidden");
        assert_eq!(change.after.unwrap(), "255 heads, 63 sectors, 63 hidden");
        let after = std::fs::read(&path).unwrap();
        assert_eq!(after[..512], after[(1 << 20) - 512..]);
        assert_eq!(after[0x18..0x20], [63, 0, 255, 0, 63, 0, 0, 0]);
        let differ = bytes.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 4);
        assert!(fix_one(&path, "/dev/sda1", 63 * 512).unwrap().is_none());
    }
}
