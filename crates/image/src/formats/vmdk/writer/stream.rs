//! The bytes of a stream, in order: grains, each table behind its grains, the end.

use std::fmt;

use libdeflater::{Compressor, Crc};

use super::Options;
use crate::formats::raw::OutputFile;
use crate::formats::vmdk::geometry::{Geometry, SECTOR, SECTOR_LEN};
use crate::formats::vmdk::header;
use crate::formats::vmdk::marker::{self, GRAIN_MARKER_LEN};
use crate::{Error, ErrorKind, Result};

/// Bytes of a grain: 128 sectors, as everybody writes them.
pub(super) const GRAIN_LEN: usize = 64 << 10;
const GRAIN_SECTORS: u64 = 128;
/// Entries and sectors of a grain table.
const TABLE_ENTRIES: u32 = 512;
const TABLE_SECTORS: u64 = 4;
/// Bytes before the first grain: header, descriptor, room.
const OVERHEAD: u64 = 64 << 10;
/// Sectors of the descriptor.
const DESCRIPTOR_SECTORS: u64 = 20;
/// Content ids that mean something else: no parent, and unknown.
const RESERVED_IDS: [u32; 3] = [0, 0xffff_fffe, 0xffff_ffff];

/// What of the stream is in the file.
pub(super) struct Stream {
    capacity: u64,
    /// Where the next bytes go.
    at: u64,
    /// The table of the grains that came last.
    table: Vec<u32>,
    number: usize,
    /// Sectors of the tables.
    directory: Vec<u32>,
    /// Of everything written, for the content id.
    crc: Crc,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("capacity", &self.capacity)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(capacity: u64) -> Result<Self> {
        let geometry = Geometry::new(capacity / SECTOR, GRAIN_SECTORS, TABLE_ENTRIES)?;
        Ok(Self {
            capacity,
            at: OVERHEAD,
            table: vec![0; TABLE_ENTRIES as usize],
            number: 0,
            directory: vec![0; geometry.tables() as usize],
            crc: Crc::new(),
        })
    }

    /// Appends a deflated grain; numbers only grow.
    pub(super) fn grain(&mut self, file: &OutputFile, number: u64, bytes: &[u8]) -> Result<()> {
        let entries = u64::from(TABLE_ENTRIES);
        let table = usize::try_from(number / entries).unwrap_or(usize::MAX);
        if table != self.number {
            self.end_table(file)?;
            self.number = table;
        }
        let sector = self.append(file, bytes)?;
        let slot = usize::try_from(number % entries).unwrap_or(usize::MAX);
        match self.table.get_mut(slot) {
            Some(entry) => *entry = sector,
            None => return Err(Error::corrupt("no such grain table entry")),
        }
        Ok(())
    }

    /// Appends the table of the last grains, if there were any.
    fn end_table(&mut self, file: &OutputFile) -> Result<()> {
        if self.table.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        let mut bytes = marker::metadata(TABLE_SECTORS, marker::TABLE).to_vec();
        bytes.extend(self.table.iter().flat_map(|entry| entry.to_le_bytes()));
        let sector = self.append(file, &bytes)? + 1;
        if let Some(entry) = self.directory.get_mut(self.number) {
            *entry = sector;
        }
        self.table.fill(0);
        Ok(())
    }

    /// Appends the last table, the directory, the footer and the end; the length of the file.
    pub(super) fn finish(&mut self, file: &OutputFile) -> Result<u64> {
        self.end_table(file)?;
        let mut directory: Vec<u8> = Vec::with_capacity(self.directory.len() * 4);
        directory.extend(self.directory.iter().flat_map(|entry| entry.to_le_bytes()));
        let sectors = (directory.len() as u64).div_ceil(SECTOR);
        let mut bytes = marker::metadata(sectors, marker::DIRECTORY).to_vec();
        bytes.append(&mut directory);
        let sector = self.append(file, &bytes)? + 1;
        let mut bytes = marker::metadata(1, marker::FOOTER).to_vec();
        bytes.extend(self.header(Some(sector)));
        bytes.extend(marker::metadata(0, marker::END_OF_STREAM));
        self.append(file, &bytes)?;
        Ok(self.at)
    }

    /// Writes what comes first: header and descriptor.
    pub(super) fn begin(&self, file: &OutputFile, options: &Options) -> Result<()> {
        let mut bytes = self.header(None).to_vec();
        bytes.extend(self.descriptor(options).as_bytes());
        bytes.resize(usize::try_from(OVERHEAD).unwrap_or(0), 0);
        file.write(&bytes, 0)
    }

    fn header(&self, directory: Option<u32>) -> [u8; header::HEADER_LEN] {
        header::stream_header(&header::NewStream {
            capacity_sectors: self.capacity / SECTOR,
            grain_sectors: GRAIN_SECTORS,
            table_entries: TABLE_ENTRIES,
            descriptor_sectors: DESCRIPTOR_SECTORS,
            overhead_sectors: OVERHEAD / SECTOR,
            directory: directory.map(u64::from),
        })
    }

    /// The embedded descriptor (VDF 1.1, The Descriptor File). The name of the extent is that of ovftool's streams;
    /// nobody reads it.
    fn descriptor(&self, options: &Options) -> String {
        let sectors = self.capacity / SECTOR;
        let crc = self.crc.sum();
        let cid = if RESERVED_IDS.contains(&crc) { 1 } else { crc };
        let adapter = options.adapter_type.name();
        let (cylinders, heads, sectors_per_track) = chs(sectors, adapter == "ide");
        format!(
            "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n\
             # Extent description\nRDONLY {sectors} SPARSE \"generated-stream.vmdk\"\n\n\
             # The Disk Data Base\n#DDB\n\n\
             ddb.adapterType = \"{adapter}\"\n\
             ddb.geometry.cylinders = \"{cylinders}\"\n\
             ddb.geometry.heads = \"{heads}\"\n\
             ddb.geometry.sectors = \"{sectors_per_track}\"\n\
             ddb.virtualHWVersion = \"{}\"\n",
            options.hw_version
        )
    }

    /// Appends whole sectors; the sector where they begin.
    fn append(&mut self, file: &OutputFile, bytes: &[u8]) -> Result<u32> {
        let sector = u32::try_from(self.at / SECTOR).map_err(|_| {
            Error::new(
                ErrorKind::Limit,
                "a VMDK stream cannot be longer than 2 TiB; hint: choose another format",
            )
            .at(self.at)
        })?;
        let len = (bytes.len() as u64).next_multiple_of(SECTOR);
        if len == bytes.len() as u64 {
            file.write(bytes, self.at)?;
        } else {
            let mut padded = bytes.to_vec();
            padded.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
            file.write(&padded, self.at)?;
        }
        self.crc.update(bytes);
        self.at += len;
        Ok(sector)
    }
}

/// Deflates a full grain: marker, data as RFC 1950 wraps them, padding to a sector.
pub(super) fn deflate(compressor: &mut Compressor, number: u64, data: &[u8]) -> Result<Vec<u8>> {
    let bound = compressor.zlib_compress_bound(data.len());
    let mut bytes = vec![0; GRAIN_MARKER_LEN + bound];
    let room = bytes.get_mut(GRAIN_MARKER_LEN..).unwrap_or_default();
    let len = compressor
        .zlib_compress(data, room)
        .map_err(|e| Error::new(ErrorKind::Usage, format!("deflating a grain: {e}")))?;
    let head = marker::grain(
        number * GRAIN_SECTORS,
        u32::try_from(len).unwrap_or(u32::MAX),
    );
    if let Some(place) = bytes.first_chunk_mut() {
        *place = head;
    }
    bytes.truncate(GRAIN_MARKER_LEN + len);
    bytes.resize(bytes.len().next_multiple_of(SECTOR_LEN), 0);
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// Cylinders, heads and sectors per track that VMware gives to a disk: for IDE those of ATA, for SCSI those of the
/// usual BIOS translations.
fn chs(sectors: u64, ide: bool) -> (u64, u64, u64) {
    const GIB_SECTORS: u64 = (1 << 30) / SECTOR;
    let (heads, per_track) = match (ide, sectors) {
        (true, _) => (16, 63),
        (false, ..GIB_SECTORS) => (64, 32),
        (false, _) => (255, 63),
    };
    let cylinders = sectors / (heads * per_track);
    let most = if ide { 16383 } else { 65535 };
    (cylinders.clamp(1, most), heads, per_track)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_is_that_of_vmwares_own_streams() {
        // `iotest-version3.vmdk`: 16 GiB, lsilogic.
        assert_eq!(chs(0x0200_0000, false), (2088, 255, 63));
        assert_eq!(chs(8192, true), (8, 16, 63));
        assert_eq!(chs(1, false), (1, 64, 32));
        assert_eq!(chs(1 << 40, true).0, 16383);
    }
}
