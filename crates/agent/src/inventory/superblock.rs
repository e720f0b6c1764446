//! What a partition or a disk holds, by the signature of its superblock, in blkid's words. Nothing is mounted.

use std::io;

use types::Guid;

use super::read::{ReadAt, le, uuid};
use super::sysfs::clean;

/// Covers the superblock of btrfs at 64 KiB, the last one from the start.
const HEAD_BYTES: u64 = 68 << 10;
/// Magic of Linux software arrays (include/uapi/linux/raid/md_p.h): little-endian, or by the endianness of an old
/// machine.
const MD_MAGIC: u32 = 0xa92b_4efc;
/// Magic of a DDF anchor header (SNIA DDF 2.0, section 4.1.4), big-endian.
const DDF_MAGIC: u32 = 0xde11_de11;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signature {
    /// In blkid's words: ext4, crypto_LUKS, ….
    pub(crate) content: &'static str,
    pub(crate) label: String,
    pub(crate) uuid: String,
    /// Where it was mounted last (ext2 to ext4).
    pub(crate) mounted_on: String,
}

impl Signature {
    fn new(content: &'static str) -> Self {
        Self {
            content,
            ..Self::default()
        }
    }

    fn label(mut self, bytes: Option<&[u8]>) -> Self {
        self.label = bytes.map(string).unwrap_or_default();
        self
    }

    fn uuid(mut self, uuid: Option<String>) -> Self {
        self.uuid = uuid.unwrap_or_default();
        self
    }
}

/// Looks for one kind of superblock in the first bytes.
type Reader = fn(&[u8]) -> Option<Signature>;

/// Bytes up to a zero, as text for people.
fn string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    clean(&String::from_utf8_lossy(&bytes[..end])).unwrap_or_default()
}

/// What is here. Containers go first: a file system inside an array of metadata 1.0 begins where the array does.
pub(crate) fn probe(disk: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let len = usize::try_from(disk.len().min(HEAD_BYTES)).unwrap_or_default();
    let head = disk.get(0, len)?.unwrap_or_default();
    if let Some(found) = luks(&head) {
        return Ok(Some(found));
    }
    if let Some(found) = probe_array(disk)? {
        return Ok(Some(found));
    }
    let readers: [Reader; 10] = [
        md_1,
        lvm,
        boot_sector,
        xfs,
        ext,
        btrfs,
        swap,
        iso9660,
        others,
        vfat,
    ];
    Ok(readers.iter().find_map(|read| read(&head)))
}

/// Signatures at the end of a disk: firmware arrays, and Linux arrays whose data begin at the start.
pub(crate) fn probe_array(disk: &dyn ReadAt) -> io::Result<Option<Signature>> {
    if let Some(found) = probe_firmware_array(disk)? {
        return Ok(Some(found));
    }
    // 1.0: at least 8 KiB from the end, at a multiple of 4 KiB; it says where it is.
    if let Some(at) = (disk.len() / 512).checked_sub(16).map(|sector| sector & !7) {
        let block = disk.get(at * 512, 256)?.unwrap_or_default();
        if le::u64(&block, 144) == Some(at)
            && let Some(found) = md_1_at(&block, 0)
        {
            return Ok(Some(found));
        }
    }
    // 0.90: the last whole 64 KiB but one.
    let Some(at) = (disk.len() & !0xffff).checked_sub(0x1_0000) else {
        return Ok(None);
    };
    let block = disk.get(at, 128)?.unwrap_or_default();
    let is_old = le::u32(&block, 0) == Some(MD_MAGIC)
        && le::u32(&block, 4) == Some(0)
        && le::u32(&block, 8) == Some(90);
    let words: Option<Vec<u8>> = [20, 52, 56, 60]
        .iter()
        .map(|&at| le::slice(&block, at, 4))
        .collect::<Option<Vec<_>>>()
        .map(|parts| parts.concat());
    Ok(is_old.then(|| Signature::new("linux_raid_member").uuid(words.as_deref().and_then(uuid))))
}

/// Members of arrays that the machine's firmware assembles.
pub(crate) fn probe_firmware_array(disk: &dyn ReadAt) -> io::Result<Option<Signature>> {
    // Intel Matrix: the last sector but one, with either sector size.
    for back in [1024, 8192] {
        if let Some(at) = disk.len().checked_sub(back) {
            let block = disk.get(at, 32)?.unwrap_or_default();
            if block.starts_with(b"Intel Raid ISM Cfg Sig. ") {
                return Ok(Some(Signature::new("isw_raid_member")));
            }
        }
    }
    // DDF: the last sector, or 257 sectors before the end.
    for back in [512, 257 * 512] {
        if let Some(at) = disk.len().checked_sub(back) {
            let block = disk.get(at, 64)?.unwrap_or_default();
            if le::u32_be(&block, 0) == Some(DDF_MAGIC) {
                let id = le::slice(&block, 8, 24).map(string);
                return Ok(Some(Signature::new("ddf_raid_member").uuid(id)));
            }
        }
    }
    Ok(None)
}

/// Only iso9660, for a stick that has a partition table beside it.
pub(crate) fn probe_iso9660(disk: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let block = disk.get(32 << 10, 128)?.unwrap_or_default();
    Ok(iso9660_at(&block, 0))
}

/// LUKS1 On-Disk Format Specification 1.2.3, figure 1; LUKS2 On-Disk Format 1.1.3, section 2.1.
fn luks(head: &[u8]) -> Option<Signature> {
    (le::slice(head, 0, 6)? == b"LUKS\xba\xbe").then_some(())?;
    let found = Signature::new("crypto_LUKS").uuid(le::slice(head, 168, 40).map(string));
    let is_second = le::slice(head, 6, 2)? == [0, 2];
    Some(found.label(le::slice(head, 24, 48).filter(|_| is_second)))
}

/// 1.1 and 1.2: at the start, or 4 KiB from it.
fn md_1(head: &[u8]) -> Option<Signature> {
    md_1_at(head, 0).or_else(|| md_1_at(head, 4096))
}

fn md_1_at(data: &[u8], at: usize) -> Option<Signature> {
    let block = le::slice(data, at, 256)?;
    (le::u32(block, 0)? == MD_MAGIC && le::u32(block, 4)? == 1).then(|| {
        Signature::new("linux_raid_member")
            .uuid(le::slice(block, 16, 16).and_then(uuid))
            .label(le::slice(block, 32, 32))
    })
}

/// A label in one of the first four sectors; behind it the header with the volume's id.
fn lvm(head: &[u8]) -> Option<Signature> {
    (0..4usize).find_map(|sector| {
        let block = le::slice(head, sector * 512, 512)?;
        let is_label =
            le::slice(block, 0, 8)? == b"LABELONE" && le::slice(block, 24, 8)? == b"LVM2 001";
        let at = usize::try_from(le::u32(block, 20)?)
            .ok()
            .filter(|_| is_label)?;
        let id = string(le::slice(block, at, 32)?);
        let dashed = [0..6, 6..10, 10..14, 14..18, 18..22, 22..26, 26..32]
            .map(|range| id.get(range).unwrap_or_default())
            .join("-");
        Some(Signature::new("LVM2_member").uuid(Some(dashed)))
    })
}

/// Windows' boot sectors, by the name at offset 3.
fn boot_sector(head: &[u8]) -> Option<Signature> {
    let name = le::slice(head, 3, 8)?;
    match name {
        // MS-NTFS: the volume's serial number is at 0x48.
        b"NTFS    " => {
            let serial = le::u64(head, 0x48)?;
            Some(Signature::new("ntfs").uuid(Some(format!("{serial:016X}"))))
        }
        b"-FVE-FS-" => Some(Signature::new("BitLocker")),
        // BitLocker To Go looks like FAT to old systems; its id is at 424.
        b"MSWIN4.1" if le::slice(head, 424, 16)? == BITLOCKER_ID => {
            Some(Signature::new("BitLocker"))
        }
        // exFAT specification, section 3.1.
        b"EXFAT   " => {
            let serial = le::u32(head, 100)?;
            Some(Signature::new("exfat").uuid(Some(dos_serial(serial))))
        }
        b"ReFS\0\0\0\0" => Some(Signature::new("ReFS")),
        _ => None,
    }
}

/// As it lies on the disk.
const BITLOCKER_ID: [u8; 16] = Guid::of(0x4967d63b_2e29_4ad8_8399_f6a339e3d001).0;

fn dos_serial(serial: u32) -> String {
    format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)
}

/// XFS Algorithms & Data Structures, "Superblocks".
fn xfs(head: &[u8]) -> Option<Signature> {
    (le::slice(head, 0, 4)? == b"XFSB").then(|| {
        Signature::new("xfs")
            .uuid(le::slice(head, 32, 16).and_then(uuid))
            .label(le::slice(head, 108, 12))
    })
}

/// Linux Documentation/filesystems/ext4/super.rst.
fn ext(head: &[u8]) -> Option<Signature> {
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    // What ext3 does not know: all but filetype, recover, meta_bg; all but sparse_super, large_file, btree_dir.
    const EXT4_INCOMPAT: u32 = !(0x2 | 0x4 | 0x10);
    const EXT4_RO_COMPAT: u32 = !(0x1 | 0x2 | 0x4);
    let block = le::slice(head, 1024, 1024)?;
    (le::u16(block, 0x38)? == 0xef53).then_some(())?;
    let compat = le::u32(block, 0x5c)?;
    let incompat = le::u32(block, 0x60)?;
    let ro_compat = le::u32(block, 0x64)?;
    let content = if incompat & JOURNAL_DEVICE != 0 {
        "jbd"
    } else if incompat & EXT4_INCOMPAT != 0 || ro_compat & EXT4_RO_COMPAT != 0 {
        "ext4"
    } else if compat & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    let mut found = Signature::new(content)
        .uuid(le::slice(block, 0x68, 16).and_then(uuid))
        .label(le::slice(block, 0x78, 16));
    found.mounted_on = string(le::slice(block, 0x88, 64)?);
    Some(found)
}

/// Btrfs on-disk format, "Superblock": at 64 KiB.
fn btrfs(head: &[u8]) -> Option<Signature> {
    let block = le::slice(head, 64 << 10, 0x12b + 256)?;
    (le::slice(block, 0x40, 8)? == b"_BHRfS_M").then(|| {
        Signature::new("btrfs")
            .uuid(le::slice(block, 0x20, 16).and_then(uuid))
            .label(le::slice(block, 0x12b, 256))
    })
}

/// The signature ends the first page, whatever a page is on that machine.
fn swap(head: &[u8]) -> Option<Signature> {
    [4096usize, 8192, 16384, 32768, 65536]
        .iter()
        .find_map(|page| {
            let content = match le::slice(head, page - 10, 10)? {
                b"SWAPSPACE2" | b"SWAP-SPACE" => "swap",
                b"S1SUSPEND\0" | b"S2SUSPEND\0" => "swsuspend",
                _ => return None,
            };
            Some(
                Signature::new(content)
                    .uuid(le::slice(head, 1036, 16).and_then(uuid))
                    .label(le::slice(head, 1052, 16)),
            )
        })
}

fn iso9660(head: &[u8]) -> Option<Signature> {
    iso9660_at(head, 32 << 10)
}

/// ECMA-119, section 8.4: the primary volume descriptor in logical sector 16.
fn iso9660_at(data: &[u8], at: usize) -> Option<Signature> {
    let block = le::slice(data, at, 72)?;
    (le::slice(block, 0, 6)? == b"\x01CD001")
        .then(|| Signature::new("iso9660").label(le::slice(block, 40, 32)))
}

/// File systems that nobody installs on any more, and new ones of others.
fn others(head: &[u8]) -> Option<Signature> {
    let has = |at: usize, magic: &[u8]| le::slice(head, at, magic.len()) == Some(magic);
    let (content, id) = if has((64 << 10) + 52, b"ReIsEr") {
        ("reiserfs", le::slice(head, (64 << 10) + 84, 16))
    } else if has(32 << 10, b"JFS1") {
        ("jfs", le::slice(head, (32 << 10) + 136, 16))
    } else if has(1024, &0xf2f5_2010_u32.to_le_bytes()) {
        ("f2fs", le::slice(head, 1024 + 108, 16))
    } else {
        return None;
    };
    Some(Signature::new(content).uuid(id.and_then(uuid)))
}

/// Microsoft's FAT specification, section 3: there is no magic, so everything is looked at.
fn vfat(head: &[u8]) -> Option<Signature> {
    let sector = le::u16(head, 11)?;
    let (cluster, fats, media) = (*head.get(13)?, *head.get(16)?, *head.get(21)?);
    let is_sane = le::u16(head, 510)? == 0xaa55
        && sector.is_power_of_two()
        && (512..=4096).contains(&sector)
        && cluster.is_power_of_two()
        && (1..=2).contains(&fats)
        && le::u16(head, 14)? != 0
        && (media == 0xf0 || media >= 0xf8);
    is_sane.then_some(())?;
    let (serial, label) = if le::slice(head, 82, 8)? == b"FAT32   " {
        (67, 71)
    } else if le::slice(head, 54, 3)? == b"FAT" {
        (39, 43)
    } else {
        return None;
    };
    let mut found = Signature::new("vfat")
        .uuid(le::u32(head, serial).map(dos_serial))
        .label(le::slice(head, label, 11));
    if found.label == "NO NAME" {
        found.label.clear();
    }
    Some(found)
}
