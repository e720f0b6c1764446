//! Writes the superblocks of a two-disk mirror, because a build host need not have the md driver. Format: version 1.2 of
//! Linux's md, `struct mdp_superblock_1` in `include/uapi/linux/raid/md_p.h`; all integers little-endian.
//!
//! ```text
//! 4096       superblock: 256 bytes, then the role of each device
//! 1 MiB      the array's data
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::config::MD_UUID;
use super::layout::Span;

/// Where the data begin, in sectors from the start of the member.
pub(super) const DATA_SECTORS: u64 = 2048;

/// Version 1.2: the superblock is 4 KiB into the member.
const SUPER_SECTOR: u64 = 8;
const SECTOR: u64 = 512;
/// `MD_SB_MAGIC`.
const MAGIC: u32 = 0xa92b_4efc;
const RAID1: u32 = 1;
const DISKS: u16 = 2;
/// `resync_offset` of an array whose halves are the same (`MaxSector`).
const IN_SYNC: u64 = u64::MAX;
/// 2023-11-14, as everything in the samples.
const TIME: u64 = 1_700_000_000;
const SUPER_LEN: usize = 256;
/// Offset of `sb_csum`.
const CHECKSUM_AT: usize = 0xd8;

/// Writes the superblock of the member `half` (0 or 1) at its place in `disk`.
pub(super) fn write_member(disk: &File, member: Span, half: u8) -> Result<()> {
    let block = superblock(member.sectors, half);
    disk.write_all_at(&block, member.offset() + SUPER_SECTOR * SECTOR)
        .context("writing a superblock of md")
}

fn superblock(member_sectors: u64, half: u8) -> Vec<u8> {
    let data_sectors = member_sectors - DATA_SECTORS;
    let mut name = b"sample-md:0".to_vec();
    name.resize(32, 0);
    let mut block = Vec::with_capacity(SUPER_LEN);
    let int = |block: &mut Vec<u8>, value: u32| block.extend(value.to_le_bytes());
    let long = |block: &mut Vec<u8>, value: u64| block.extend(value.to_le_bytes());
    int(&mut block, MAGIC);
    int(&mut block, 1); // major_version
    int(&mut block, 0); // feature_map
    int(&mut block, 0); // pad0
    block.extend(uuid(MD_UUID)); // set_uuid
    block.extend(name); // set_name
    long(&mut block, TIME); // ctime
    int(&mut block, RAID1); // level
    int(&mut block, 0); // layout
    long(&mut block, data_sectors); // size of each member
    int(&mut block, 0); // chunksize
    int(&mut block, u32::from(DISKS)); // raid_disks
    block.resize(0x80, 0); // no bitmap, no reshape
    long(&mut block, DATA_SECTORS); // data_offset
    long(&mut block, data_sectors); // data_size
    long(&mut block, SUPER_SECTOR); // super_offset
    long(&mut block, 0); // recovery_offset
    int(&mut block, u32::from(half)); // dev_number
    int(&mut block, 0); // cnt_corrected_read
    let mut device = uuid(MD_UUID);
    device.rotate_left(1 + usize::from(half));
    block.extend(device); // device_uuid
    block.resize(0xc0, 0); // devflags, no bad block log
    long(&mut block, TIME); // utime
    long(&mut block, 2); // events
    long(&mut block, IN_SYNC); // resync_offset
    int(&mut block, 0); // sb_csum
    int(&mut block, u32::from(DISKS)); // max_dev
    block.resize(SUPER_LEN, 0);
    for role in 0..DISKS {
        block.extend(role.to_le_bytes()); // dev_roles
    }
    let sum = checksum(&block);
    block.splice(CHECKSUM_AT..CHECKSUM_AT + 4, sum.to_le_bytes());
    block
}

/// The sum of the 32-bit words, its carry added once; `sb_csum` itself counts as zero.
fn checksum(block: &[u8]) -> u32 {
    let sum: u64 = block
        .chunks_exact(4)
        .filter_map(|word| Some(u64::from(u32::from_le_bytes(word.try_into().ok()?))))
        .sum();
    let folded = (sum & 0xffff_ffff) + (sum >> 32);
    u32::try_from(folded & 0xffff_ffff).unwrap_or(0)
}

fn uuid(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd;
    use crate::guest::{Sample, layout::Layout};

    #[test]
    fn mdadm_itself_reads_both_members() {
        if !crate::require_tool("mdadm") {
            return;
        }
        let member = Layout::of(Sample::Md).md.unwrap();
        for half in [0, 1] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(member.len()).unwrap();
            let at_start = Span {
                start_sector: 0,
                ..member
            };
            write_member(file.as_file(), at_start, half).unwrap();
            let told = cmd::output(cmd::command("mdadm", ["--examine"]).arg(file.path())).unwrap();
            for fact in [
                "Version : 1.2",
                "Raid Level : raid1",
                "State : clean",
                "Array UUID : 5a3d1f04:aaaa4000:80000000:00000004",
                "Name : sample-md:0",
                &format!("Active device {half}"),
                "correct",
            ] {
                assert!(told.contains(fact), "{fact}: {told}");
            }
        }
    }
}
