//! Writes an LVM2 physical volume with one volume group `vg0` and linear volumes, because a build host need not have device
//! mapper. Format: lvm2 source tree, `lib/format_text/layout.h` and `lib/label/label.h`; all integers little-endian.
//!
//! ```text
//! sector 1   label_header (32 bytes), pv_header (uuid, size, disk areas, metadata areas)
//! 4096       mda_header (one sector): where the live text is
//! 4608       the metadata as text
//! 1 MiB      first physical extent
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::layout::LvmSpan;

/// First physical extent, in sectors from the start of the physical volume.
pub(super) const PE_START_SECTORS: u64 = 2048;
/// Size of a physical extent: lvm2's default of 4 MiB.
pub(super) const EXTENT_SECTORS: u64 = 8192;

const SECTOR: u64 = 512;
const MDA_START: u64 = 4096;
const MDA_HEADER_SIZE: u64 = 512;
/// `FMTT_MAGIC`.
const MDA_MAGIC: &[u8; 16] = b" LVM2 x[5A%r0N*>";
/// Initial value of lvm2's checksum, `INITIAL_CRC`.
const CRC_START: u32 = 0xf597_a6cf;

const PV_UUID: &str = "v2vSmp-pv00-0000-0000-0000-0000-sample";
const VG_UUID: &str = "v2vSmp-vg00-0000-0000-0000-0000-sample";
const ROOT_UUID: &str = "v2vSmp-lvro-ot00-0000-0000-0000-sample";
const SWAP_UUID: &str = "v2vSmp-lvsw-ap00-0000-0000-0000-sample";

/// Writes label and metadata of the physical volume at its place in `disk`.
pub(super) fn write_pv(disk: &File, lvm: &LvmSpan) -> Result<()> {
    let pv = lvm.pv;
    let text = metadata(lvm);
    let write = |offset: u64, bytes: &[u8]| disk.write_all_at(bytes, pv.offset() + offset);
    write(SECTOR, &label(pv.len()))
        .and_then(|()| write(MDA_START, &mda_header(text.as_bytes())))
        .and_then(|()| write(MDA_START + MDA_HEADER_SIZE, text.as_bytes()))
        .context("writing the LVM metadata")
}

/// `label_header` and `pv_header` in one sector.
fn label(pv_size: u64) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(32_u32.to_le_bytes()); // offset_xl: where pv_header starts
    body.extend(b"LVM2 001");
    body.extend(PV_UUID.replace('-', "").as_bytes());
    body.extend(pv_size.to_le_bytes());
    // disk_areas_xl: the data area up to the end (size 0), then the end mark; metadata areas likewise.
    for (offset, size) in [
        (PE_START_SECTORS * SECTOR, 0),
        (0, 0),
        (MDA_START, PE_START_SECTORS * SECTOR - MDA_START),
        (0, 0),
    ] {
        body.extend(u64::to_le_bytes(offset));
        body.extend(u64::to_le_bytes(size));
    }
    // pv_header_extension: version 2, flags PV_EXT_USED, no bootloader area.
    body.extend(2_u32.to_le_bytes());
    body.extend(1_u32.to_le_bytes());
    body.resize(usize::try_from(SECTOR).unwrap_or(512) - 20, 0);
    let mut sector = Vec::from(*b"LABELONE");
    sector.extend(1_u64.to_le_bytes()); // sector_xl: the label's own place
    sector.extend(crc(&body).to_le_bytes()); // crc_xl: from offset_xl to the end of the sector
    sector.extend(body);
    sector
}

fn mda_header(text: &[u8]) -> Vec<u8> {
    let mut body = Vec::from(MDA_MAGIC);
    body.extend(1_u32.to_le_bytes()); // version
    body.extend(MDA_START.to_le_bytes());
    body.extend((PE_START_SECTORS * SECTOR - MDA_START).to_le_bytes());
    // raw_locn: offset from the mda's start, size with the final NUL, checksum, flags.
    body.extend(MDA_HEADER_SIZE.to_le_bytes());
    body.extend((text.len() as u64).to_le_bytes());
    body.extend(crc(text).to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    body.resize(usize::try_from(MDA_HEADER_SIZE).unwrap_or(512) - 4, 0);
    let mut header = Vec::from(crc(&body).to_le_bytes());
    header.extend(body);
    header
}

fn metadata(lvm: &LvmSpan) -> String {
    let extents = (lvm.pv.sectors - PE_START_SECTORS) / EXTENT_SECTORS;
    let volumes = logical_volume("root", ROOT_UUID, 0, lvm.root_extents)
        + &logical_volume("swap", SWAP_UUID, lvm.root_extents, lvm.swap_extents);
    format!(
        "vg0 {{\nid = \"{VG_UUID}\"\nseqno = 3\nformat = \"lvm2\"\nstatus = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\nflags = []\n\
         extent_size = {EXTENT_SECTORS}\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n\n\
         physical_volumes {{\n\npv0 {{\nid = \"{PV_UUID}\"\ndevice = \"/dev/sda2\"\nstatus = [\"ALLOCATABLE\"]\nflags = []\n\
         dev_size = {}\npe_start = {PE_START_SECTORS}\npe_count = {extents}\n}}\n}}\n\n\
         logical_volumes {{\n{volumes}}}\n\n}}\n\
         contents = \"Text Format Volume Group\"\nversion = 1\ndescription = \"sample guest\"\n\
         creation_host = \"sample-lvm\"\ncreation_time = 1700000000\n\0",
        lvm.pv.sectors
    )
}

fn logical_volume(name: &str, uuid: &str, first_extent: u64, extents: u64) -> String {
    format!(
        "\n{name} {{\nid = \"{uuid}\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\n\
         creation_time = 1700000000\ncreation_host = \"sample-lvm\"\nsegment_count = 1\n\n\
         segment1 {{\nstart_extent = 0\nextent_count = {extents}\ntype = \"striped\"\nstripe_count = 1\n\
         stripes = [\n\"pv0\", {first_extent}\n]\n}}\n}}\n"
    )
}

/// The reflected CRC-32 (0xEDB88320) from lvm2's own start value, without final inversion.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(CRC_START, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd;
    use crate::guest::{Sample, layout::Layout};

    #[test]
    fn header_fields_lie_where_lvm2_reads_them() {
        let label = label(1 << 30);
        assert_eq!(label.len(), 512);
        assert_eq!(&label[24..32], b"LVM2 001");
        assert_eq!(&label[32..38], b"v2vSmp");
        assert_eq!(label[64..72], (1_u64 << 30).to_le_bytes());
        let header = mda_header(b"x\0");
        assert_eq!(header.len(), 512);
        assert_eq!(&header[4..20], MDA_MAGIC);
        assert_eq!(header[40..48], 512_u64.to_le_bytes());
    }

    #[test]
    fn lvm_itself_reads_the_volume_group() {
        if !crate::require_root() || !crate::require_tool("pvck") {
            return;
        }
        let lvm = Layout::of(Sample::Lvm).lvm.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file()
            .set_len(lvm.pv.offset() + lvm.pv.len())
            .unwrap();
        write_pv(file.as_file(), &lvm).unwrap();
        let at = ["-o", &lvm.pv.offset().to_string(), "-f", "--show"];
        let device = match cmd::output(cmd::command("losetup", at).arg(file.path())) {
            Ok(device) => device.trim().to_owned(),
            Err(_) => return crate::skip("loop devices do not work"),
        };
        let system_dir = tempfile::tempdir().unwrap();
        let config =
            format!("devices {{ use_devicesfile=0 filter=[\"a|^{device}$|\",\"r|.*|\"] }}");
        let lvs = cmd::output(
            cmd::command(
                "lvs",
                [
                    "--driverloaded",
                    "n",
                    "--config",
                    &config,
                    "--noheadings",
                    "-o",
                    "lv_name,lv_size,vg_extent_count",
                ],
            )
            .args(["--units", "m"])
            .env("LVM_SYSTEM_DIR", system_dir.path()),
        );
        let pvck = cmd::output(
            cmd::command("pvck", ["--config", &config, "--dump", "headers", &device])
                .env("LVM_SYSTEM_DIR", system_dir.path()),
        );
        cmd::output(&mut cmd::command("losetup", ["-d", &device])).unwrap();
        let lvs: Vec<String> = lvs
            .unwrap()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(lvs, ["root 4608.00m 1407", "swap 512.00m 1407"]);
        let pvck = pvck.unwrap();
        assert!(
            pvck.contains("label_header") && !pvck.contains("CHECK"),
            "{pvck}"
        );
    }
}
