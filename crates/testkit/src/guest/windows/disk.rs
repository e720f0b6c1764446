//! The disks: where everything lies, and how they are packed for a user.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate};

use super::volume::{Volume, noise};
use super::{Windows, boot, tree};
use crate::cmd;
use crate::guest::sparse;

const MIB: u64 = 1 << 20;
const DISK_SIZE: u64 = 1536 * MIB;

/// The signature that MountedDevices of the Windows 7 has for its C:, which is 1 MiB behind the disk's start.
pub(super) const SIGNATURE: u32 = 0x5cbe_a03e;
/// The signature of its data disk.
pub(super) const DATA_SIGNATURE: u32 = 0x0da7_ad15;
/// Where E: is on the data disk of Windows 7.
pub const DATA: Span = mib(1, 128);
/// Bytes of a deleted file on E:.
const DATA_NOISE: usize = 48 << 20;
pub(super) const DISK_GUID: &str = "5A3D1F07-0000-4000-8000-000000000000";
pub(super) const ESP_GUID: &str = "5A3D1F07-0000-4000-8000-000000000001";
pub(super) const SYSTEM_GUID: &str = "5A3D1F07-0000-4000-8000-000000000003";

/// A range of the disk in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: u64,
    /// Its length.
    pub len: u64,
}

const fn mib(start: u64, len: u64) -> Span {
    Span {
        start: start * MIB,
        len: len * MIB,
    }
}

/// Where the volumes are.
pub(super) struct Layout {
    pub(super) system: Span,
    /// ESP or "System Reserved".
    pub(super) boot: Span,
    recovery: Option<Span>,
    script: String,
}

impl Layout {
    pub(super) fn of(which: Windows) -> Self {
        let line = |span: Span, rest: &str| {
            format!(
                "start={}, size={}, {rest}\n",
                span.start / 512,
                span.len / 512
            )
        };
        match which {
            Windows::Seven => {
                let (system, boot) = (mib(1, 1400), mib(1401, 64));
                let script = format!(
                    "label: dos\nlabel-id: {SIGNATURE:#010x}\nunit: sectors\n\n{}{}",
                    line(system, "type=7"),
                    line(boot, "type=7, bootable")
                );
                Self {
                    system,
                    boot,
                    recovery: None,
                    script,
                }
            }
            Windows::EightOne => {
                let (boot, reserved) = (mib(1, 64), mib(65, 16));
                let (system, recovery) = (mib(81, 1400), mib(1481, 32));
                let script = format!(
                    "label: gpt\nlabel-id: {DISK_GUID}\nunit: sectors\n\n{}{}{}{}",
                    line(
                        boot,
                        &format!(
                            "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={ESP_GUID}, name=\"EFI system partition\""
                        )
                    ),
                    line(
                        reserved,
                        "type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE, name=\"Microsoft reserved partition\""
                    ),
                    line(
                        system,
                        &format!(
                            "type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, uuid={SYSTEM_GUID}, name=\"Basic data partition\""
                        )
                    ),
                    line(recovery, "type=DE94BBA4-06D1-4D40-A16A-BFD50179D6AC"),
                );
                Self {
                    system,
                    boot,
                    recovery: Some(recovery),
                    script,
                }
            }
        }
    }

    /// Input of sfdisk(8).
    pub(super) fn sfdisk_script(&self) -> String {
        self.script.clone()
    }
}

/// Builds disk.raw and the user's files in `dir`.
pub(super) fn build(which: Windows, layout: &Layout, hives: &Path, dir: &Path) -> Result<()> {
    let raw = dir.join("disk.raw");
    let disk = partitioned(&raw, DISK_SIZE, &layout.sfdisk_script())?;
    let part = dir.join("part");
    let volume = Volume::format(&part, layout.system, "")?;
    volume.mounted("rw", |root| tree::fill(which, hives, root))?;
    put(&part, &disk, layout.system)?;
    match which {
        Windows::Seven => {
            let volume = Volume::format(&part, layout.boot, "System Reserved")?;
            volume.mounted("rw", |root| {
                fs::create_dir(root.join("Boot"))?;
                fs::write(root.join("Boot/BCD"), boot::bcd(which)?)?;
                fs::write(root.join("bootmgr"), boot::program(which))?;
                Ok(())
            })?;
        }
        Windows::EightOne => esp(&part, layout.boot, which)?,
    }
    put(&part, &disk, layout.boot)?;
    if let Some(span) = layout.recovery {
        Volume::format(&part, span, "Recovery")?;
        put(&part, &disk, span)?;
    }
    disk.sync_all()?;
    if which == Windows::Seven {
        data_disk(&part, dir)?;
    }
    fs::remove_file(&part)?;
    pack(which, &raw, dir)
}

/// A new disk with the partitions of this input of sfdisk(8).
fn partitioned(raw: &Path, size: u64, script: &str) -> Result<File> {
    let disk = File::options()
        .write(true)
        .create_new(true)
        .open(raw)
        .with_context(|| format!("creating {}", raw.display()))?;
    disk.set_len(size)?;
    let options = ["--quiet", "--no-reread", "--no-tell-kernel"];
    cmd::output_with_input(cmd::command("sfdisk", options).arg(raw), script)?;
    Ok(disk)
}

/// E: on a disk of its own, data.raw: a ledger, and noise in free clusters.
fn data_disk(part: &Path, dir: &Path) -> Result<()> {
    let script = format!(
        "label: dos\nlabel-id: {DATA_SIGNATURE:#010x}\nunit: sectors\n\nstart={}, size={}, type=7\n",
        DATA.start / 512,
        DATA.len / 512
    );
    let disk = partitioned(&dir.join("data.raw"), DATA.start + DATA.len + MIB, &script)?;
    let volume = Volume::format(part, DATA, "Data")?;
    volume.mounted("rw", |root| {
        fs::write(root.join("deleted"), noise(4, DATA_NOISE))?;
        fs::write(root.join("ledger.txt"), noise(5, 1 << 20))?;
        Ok(fs::remove_file(root.join("deleted"))?)
    })?;
    put(part, &disk, DATA)?;
    Ok(disk.sync_all()?)
}

fn esp(part: &Path, span: Span, which: Windows) -> Result<()> {
    File::create(part)?.set_len(span.len)?;
    let format = ["-F", "32", "--invariant", "-i", "5a3d1f07"];
    cmd::output(cmd::command("mkfs.vfat", format).arg(part))?;
    let scratch = part.with_extension("bcd");
    let folders = ["::/EFI", "::/EFI/Microsoft", "::/EFI/Microsoft/Boot"];
    cmd::output(cmd::command("mmd", ["-i"]).arg(part).args(folders))?;
    for (name, bytes) in [
        ("BCD", boot::bcd(which)?),
        ("bootmgfw.efi", boot::program(which)),
    ] {
        fs::write(&scratch, bytes)?;
        let to = format!("::/EFI/Microsoft/Boot/{name}");
        cmd::output(
            cmd::command("mcopy", ["-i"])
                .arg(part)
                .arg(&scratch)
                .arg(to),
        )?;
    }
    fs::remove_file(&scratch)?;
    Ok(())
}

/// Copies the file `part` to its place; blocks of zeroes stay holes.
fn put(part: &Path, disk: &File, span: Span) -> Result<()> {
    let file = File::open(part)?;
    let len = file.metadata()?.len();
    sparse::copy(&file, 0, len, disk, span.start)
        .with_context(|| format!("copying {}", part.display()))
}

/// Writes a partition back to its place in a raw disk, over what is there; holes become holes.
pub fn put_back(part: &Path, raw: &Path, span: Span) -> Result<()> {
    let disk = File::options()
        .write(true)
        .open(raw)
        .with_context(|| format!("opening {}", raw.display()))?;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&disk, hole, span.start, span.len).context("clearing a partition")?;
    put(part, &disk, span)
}

/// Copies a range of a raw disk to a file of its own, sparse.
pub fn cut(raw: &Path, span: Span, to: &Path) -> Result<PathBuf> {
    let disk = File::open(raw).with_context(|| format!("opening {}", raw.display()))?;
    let file = File::create(to).with_context(|| format!("creating {}", to.display()))?;
    file.set_len(span.len)?;
    sparse::copy(&disk, span.start, span.len, &file, 0)?;
    Ok(to.to_owned())
}

fn pack(which: Windows, raw: &Path, dir: &Path) -> Result<()> {
    let convert = |raw: &Path, format: &str, to: &str| {
        let mut command = cmd::command("qemu-img", ["convert", "-f", "raw", "-O", format]);
        cmd::output(command.arg(raw).arg(dir.join(to))).map(drop)
    };
    match which {
        Windows::Seven => {
            convert(raw, "vmdk", "win7.vmdk")?;
            convert(&dir.join("data.raw"), "vmdk", "win7-data.vmdk")?;
            let text = "displayName = \"win7\"\nguestOS = \"windows7\"\nmemSize = \"1024\"\nnumvcpus = \"1\"\n\
                scsi0.present = \"TRUE\"\nscsi0.virtualDev = \"lsisas1068\"\nscsi0:0.present = \"TRUE\"\n\
                scsi0:0.fileName = \"win7.vmdk\"\nscsi0:1.present = \"TRUE\"\n\
                scsi0:1.fileName = \"win7-data.vmdk\"\nethernet0.present = \"TRUE\"\nethernet0.virtualDev = \"e1000\"\n\
                ethernet0.networkName = \"VM Network\"\nethernet0.addressType = \"static\"\n\
                ethernet0.address = \"00:0c:29:71:07:3c\"\n";
            fs::write(dir.join("win7.vmx"), text).context("writing win7.vmx")
        }
        Windows::EightOne => convert(raw, "vhdx", "win81.vhdx"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_everything_fits() {
        for which in Windows::ALL {
            let layout = Layout::of(which);
            let mut spans = vec![layout.system, layout.boot];
            spans.extend(layout.recovery);
            spans.sort_by_key(|span| span.start);
            for pair in spans.windows(2) {
                assert!(pair[0].start + pair[0].len <= pair[1].start);
            }
            let end = spans.last().unwrap();
            assert!(end.start + end.len + MIB <= DISK_SIZE);
        }
    }

    #[test]
    fn guids_are_stored_as_windows_does() {
        assert_eq!(
            boot::guid("01020304-0506-0708-090A-0B0C0D0E0F10"),
            [4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16]
        );
    }
}
