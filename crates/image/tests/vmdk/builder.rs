//! Makes small images by hand, and says where everything in them is, so that tests can damage it.

use std::collections::BTreeMap;

use libdeflater::{CompressionLvl, Compressor};

pub(crate) const SECTOR: usize = 512;
pub(crate) const GRAIN_SECTORS: u64 = 128;
pub(crate) const GRAIN_LEN: usize = 65536;
pub(crate) const TABLE_ENTRIES: u32 = 512;
/// Where the first grain of a stream is.
const STREAM_OVERHEAD: usize = 65536;

/// What an image holds, and where.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) directory_at: usize,
    /// Table number to offset.
    pub(crate) tables: BTreeMap<u32, usize>,
    /// Grain number to offset, of its marker in a stream.
    pub(crate) grains: BTreeMap<u32, usize>,
    /// Streams: the footer's header.
    pub(crate) footer_at: usize,
}

impl Image {
    pub(crate) fn put(&mut self, at: usize, patch: &[u8]) -> &mut Self {
        self.bytes[at..at + patch.len()].copy_from_slice(patch);
        self
    }

    pub(crate) fn put_u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn put_u64(&mut self, at: usize, value: u64) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    /// Where the table entry of a grain is.
    pub(crate) fn entry_at(&self, grain: u32) -> usize {
        self.tables[&(grain / TABLE_ENTRIES)] + (grain % TABLE_ENTRIES) as usize * 4
    }

    fn align(&mut self) -> usize {
        let len = self.bytes.len().next_multiple_of(SECTOR);
        self.bytes.resize(len, 0);
        len
    }

    fn marker(&mut self, sectors: u64, kind: u32) {
        self.align();
        self.bytes.extend(sectors.to_le_bytes());
        self.bytes.extend(0_u32.to_le_bytes());
        self.bytes.extend(kind.to_le_bytes());
        self.align();
    }
}

/// The content of a grain: compressible, and different for each.
pub(crate) fn grain_content(grain: u32) -> Vec<u8> {
    (0..GRAIN_LEN)
        .map(|i| (i / 97) as u8 ^ (grain as u8).wrapping_mul(31) ^ (i % 7) as u8)
        .collect()
}

pub(crate) fn descriptor(create_type: &str, sectors: u64) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"{create_type}\"\n\n\
         RW {sectors} SPARSE \"test.vmdk\"\n\nddb.adapterType = \"lsilogic\"\n"
    )
}

fn header(
    version: u32,
    flags: u32,
    sectors: u64,
    directory: u64,
    overhead: usize,
    compression: u16,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTOR);
    bytes.extend(b"KDMV");
    bytes.extend(version.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    for field in [sectors, GRAIN_SECTORS, 1, 20] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(TABLE_ENTRIES.to_le_bytes());
    for field in [0, directory, (overhead / SECTOR) as u64] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.push(0);
    bytes.extend(b"\n \r\n");
    bytes.extend(compression.to_le_bytes());
    bytes.resize(SECTOR, 0);
    bytes
}

/// A `monolithicSparse` image with these grains.
pub(crate) fn hosted(sectors: u64, grains: &[u32]) -> Image {
    let tables = u32::try_from(sectors.div_ceil(GRAIN_SECTORS))
        .unwrap()
        .div_ceil(TABLE_ENTRIES);
    let directory_at = 21 * SECTOR;
    let tables_at = (directory_at + tables as usize * 4).next_multiple_of(SECTOR);
    let overhead = (tables_at + tables as usize * 2048).next_multiple_of(GRAIN_LEN);
    let mut bytes = header(1, 1, sectors, 21, overhead, 0);
    bytes.extend(descriptor("monolithicSparse", sectors).as_bytes());
    bytes.resize(overhead, 0);
    let mut image = Image {
        bytes,
        directory_at,
        tables: BTreeMap::new(),
        grains: BTreeMap::new(),
        footer_at: 0,
    };
    for table in 0..tables {
        let at = tables_at + table as usize * 2048;
        image.put_u32(directory_at + table as usize * 4, (at / SECTOR) as u32);
        image.tables.insert(table, at);
    }
    for grain in grains {
        let at = image.bytes.len();
        image.bytes.extend(grain_content(*grain));
        image.put_u32(image.entry_at(*grain), (at / SECTOR) as u32);
        image.grains.insert(*grain, at);
    }
    image
}

/// Compresses as zlib does.
pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut out = vec![0; compressor.zlib_compress_bound(data.len())];
    let len = compressor.zlib_compress(data, &mut out).unwrap();
    out.truncate(len);
    out
}

/// A `streamOptimized` image with these grains, tables and directory behind them, and a footer.
pub(crate) fn stream(sectors: u64, grains: &[u32]) -> Image {
    let contents: Vec<_> = grains
        .iter()
        .map(|grain| (*grain, deflate(&grain_content(*grain))))
        .collect();
    stream_of(sectors, &contents)
}

/// The same with compressed grains given.
pub(crate) fn stream_of(sectors: u64, grains: &[(u32, Vec<u8>)]) -> Image {
    let mut bytes = header(3, 0x3_0001, sectors, u64::MAX, STREAM_OVERHEAD, 1);
    bytes.extend(descriptor("streamOptimized", sectors).as_bytes());
    bytes.resize(STREAM_OVERHEAD, 0);
    let mut image = Image {
        bytes,
        directory_at: 0,
        tables: BTreeMap::new(),
        grains: BTreeMap::new(),
        footer_at: 0,
    };
    let mut entries = BTreeMap::<u32, [u32; TABLE_ENTRIES as usize]>::new();
    for (grain, data) in grains {
        let at = image.align();
        image
            .bytes
            .extend((u64::from(*grain) * GRAIN_SECTORS).to_le_bytes());
        image.bytes.extend((data.len() as u32).to_le_bytes());
        image.bytes.extend(data);
        image.grains.insert(*grain, at);
        let table = entries
            .entry(grain / TABLE_ENTRIES)
            .or_insert([0; TABLE_ENTRIES as usize]);
        table[(grain % TABLE_ENTRIES) as usize] = (at / SECTOR) as u32;
    }
    for (number, table) in &entries {
        image.marker(4, 1);
        let at = image.align();
        image.tables.insert(*number, at);
        image
            .bytes
            .extend(table.iter().flat_map(|entry| entry.to_le_bytes()));
    }
    let count = u32::try_from(sectors.div_ceil(GRAIN_SECTORS))
        .unwrap()
        .div_ceil(TABLE_ENTRIES);
    image.marker(u64::from(count * 4).div_ceil(SECTOR as u64), 2);
    image.directory_at = image.align();
    for table in 0..count {
        let sector = image.tables.get(&table).map_or(0, |at| at / SECTOR);
        image.bytes.extend((sector as u32).to_le_bytes());
    }
    image.marker(1, 3);
    image.footer_at = image.align();
    let directory = (image.directory_at / SECTOR) as u64;
    image
        .bytes
        .extend(header(3, 0x3_0001, sectors, directory, STREAM_OVERHEAD, 1));
    image.marker(0, 0);
    image
}
