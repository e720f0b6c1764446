//! Makes images from the specification, without the code under test: 1 MiB of header, log, metadata, BAT, blocks.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) const MIB: usize = 1 << 20;
pub(crate) const LOG: usize = MIB;
pub(crate) const METADATA: usize = 2 * MIB;
pub(crate) const BAT: usize = 3 * MIB;
pub(crate) const HEADERS: [usize; 2] = [64 << 10, 128 << 10];
pub(crate) const TABLES: [usize; 2] = [192 << 10, 256 << 10];

/// GUIDs by their digits.
pub(crate) const BAT_ID: u128 = 0x2dc27766_f623_4200_9d64_115e9bfd4a08;
pub(crate) const METADATA_ID: u128 = 0x8b7ca206_4790_4b9a_b8fe_575f050f886e;
const ITEMS: [u128; 6] = [
    0xcaa16737_fa36_4d43_b3b6_33f0aa44e76b,
    0x2fa54224_cd1b_4876_b211_5dbed83bf4b8,
    0x8141bf1d_a96f_4709_ba47_f233a8faab5f,
    0xcda348c7_445d_4471_9cc9_e9885251c556,
    0xbeca12ab_b2e6_4523_93ef_c309e000c746,
    0xa8d35f2d_b30b_454d_abf7_d3d84834ab0c,
];
const LOCATOR_TYPE: u128 = 0xb04aefb7_d19e_4a81_b789_25b8e9445913;

/// File order of a GUID.
pub(crate) fn guid(digits: u128) -> [u8; 16] {
    let b = digits.to_be_bytes();
    [
        b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13],
        b[14], b[15],
    ]
}

/// `{…}` as Windows writes it.
pub(crate) fn braced(digits: u128) -> String {
    let hex = format!("{digits:032x}");
    format!(
        "{{{}-{}-{}-{}-{}}}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// CRC-32C, bit by bit over a table of nibbles, and into the field at byte 4.
pub(crate) fn seal(bytes: &mut [u8]) {
    let nibbles: Vec<u32> = (0..16u32)
        .map(|n| {
            (0..4).fold(n, |c, _| {
                if c & 1 == 1 {
                    c >> 1 ^ 0x82f6_3b78
                } else {
                    c >> 1
                }
            })
        })
        .collect();
    put(bytes, 4, &[0; 4]);
    let mut crc = !0u32;
    for &byte in bytes.iter() {
        crc ^= u32::from(byte);
        crc = crc >> 4 ^ nibbles[(crc & 15) as usize];
        crc = crc >> 4 ^ nibbles[(crc & 15) as usize];
    }
    put(bytes, 4, &(!crc).to_le_bytes());
}

/// Seals the structure at `at` again after a change.
pub(crate) fn reseal(image: &mut [u8], at: usize, len: usize) {
    seal(&mut image[at..at + len]);
}

#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) block_size: usize,
    pub(crate) sector: usize,
    pub(crate) virtual_size: u64,
    pub(crate) identity: u128,
    pub(crate) locator: Option<Vec<(&'static str, String)>>,
    pub(crate) fixed: bool,
    /// Block to state and, for states 6 and 7, bytes.
    pub(crate) blocks: BTreeMap<u64, (u64, Vec<u8>)>,
    /// Sectors of partially present blocks that are in the file.
    pub(crate) present: BTreeSet<u64>,
}

impl Disk {
    pub(crate) fn new(block_size: usize, sector: usize, virtual_size: u64) -> Self {
        Self {
            block_size,
            sector,
            virtual_size,
            identity: 0x1111,
            locator: None,
            fixed: false,
            blocks: BTreeMap::new(),
            present: BTreeSet::new(),
        }
    }

    /// Names the parent by a relative path.
    pub(crate) fn child_of(mut self, path: &str, identity: u128) -> Self {
        self.locator = Some(vec![
            ("parent_linkage", braced(identity)),
            ("relative_path", path.to_owned()),
        ]);
        self
    }

    pub(crate) fn chunk_ratio(&self) -> u64 {
        ((1u64 << 23) * self.sector as u64) / self.block_size as u64
    }

    pub(crate) fn entry_at(&self, block: u64) -> usize {
        BAT + 8 * (block + block / self.chunk_ratio()) as usize
    }

    pub(crate) fn bitmap_entry_at(&self, block: u64) -> usize {
        let ratio = self.chunk_ratio();
        BAT + 8 * (block / ratio * (ratio + 1) + ratio) as usize
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let blocks = self.virtual_size.div_ceil(self.block_size as u64);
        let entries = (blocks + 1).div_ceil(self.chunk_ratio()) * (self.chunk_ratio() + 1);
        let bat_len = (entries as usize * 8).next_multiple_of(MIB);
        let mut image = vec![0; BAT + bat_len];
        put(&mut image, 0, b"vhdxfile");
        let creator: Vec<u8> = "test".encode_utf16().flat_map(u16::to_le_bytes).collect();
        put(&mut image, 8, &creator);
        for (at, number) in HEADERS.into_iter().zip([6u64, 7]) {
            put(&mut image, at, b"head");
            put(&mut image, at + 8, &number.to_le_bytes());
            put(&mut image, at + 16, &guid(0x2222));
            put(&mut image, at + 32, &guid(self.identity));
            put(&mut image, at + 66, &1u16.to_le_bytes());
            put(&mut image, at + 68, &(MIB as u32).to_le_bytes());
            put(&mut image, at + 72, &(LOG as u64).to_le_bytes());
            reseal(&mut image, at, 4096);
        }
        for at in TABLES {
            put(&mut image, at, b"regi");
            put(&mut image, at + 8, &2u32.to_le_bytes());
            let regions = [(BAT_ID, BAT, bat_len), (METADATA_ID, METADATA, MIB)];
            for (index, (id, offset, len)) in regions.into_iter().enumerate() {
                let entry = at + 16 + 32 * index;
                put(&mut image, entry, &guid(id));
                put(&mut image, entry + 16, &(offset as u64).to_le_bytes());
                put(&mut image, entry + 24, &(len as u32).to_le_bytes());
                put(&mut image, entry + 28, &1u32.to_le_bytes());
            }
            reseal(&mut image, at, 64 << 10);
        }
        self.metadata(&mut image);
        for (&block, (state, bytes)) in &self.blocks {
            let mut entry = *state;
            if matches!(state, 6 | 7) {
                entry |= image.len() as u64;
                let start = image.len();
                image.resize(start + self.block_size, 0);
                put(&mut image, start, bytes);
            }
            put(&mut image, self.entry_at(block), &entry.to_le_bytes());
        }
        self.bitmaps(&mut image);
        image
    }

    fn metadata(&self, image: &mut [u8]) {
        let flags = u32::from(self.fixed) | u32::from(self.locator.is_some()) << 1;
        let mut parameters = (self.block_size as u32).to_le_bytes().to_vec();
        parameters.extend(flags.to_le_bytes());
        let mut values = vec![
            parameters,
            self.virtual_size.to_le_bytes().to_vec(),
            (self.sector as u32).to_le_bytes().to_vec(),
            4096u32.to_le_bytes().to_vec(),
            guid(0x3333).to_vec(),
        ];
        values.extend(self.locator.as_deref().map(locator));
        put(image, METADATA, b"metadata");
        put(image, METADATA + 10, &(values.len() as u16).to_le_bytes());
        let mut offset = 64 << 10;
        for (index, value) in values.iter().enumerate() {
            let entry = METADATA + 32 + 32 * index;
            put(image, entry, &guid(ITEMS[index]));
            put(image, entry + 16, &(offset as u32).to_le_bytes());
            put(image, entry + 20, &(value.len() as u32).to_le_bytes());
            put(image, entry + 24, &[4]);
            put(image, METADATA + offset, value);
            offset += value.len();
        }
    }

    fn bitmaps(&self, image: &mut Vec<u8>) {
        let per_block = (self.block_size / self.sector) as u64;
        let partial: Vec<u64> = self
            .blocks
            .iter()
            .filter(|(_, (state, _))| *state == 7)
            .map(|(&block, _)| block)
            .collect();
        for block in partial {
            let entry = self.bitmap_entry_at(block);
            if image[entry] == 0 {
                let value = image.len() as u64 | 6;
                put(image, entry, &value.to_le_bytes());
                image.resize(image.len() + MIB, 0);
            }
            let place = u64::from_le_bytes(image[entry..entry + 8].try_into().unwrap()) >> 20 << 20;
            for sector in self
                .present
                .range(block * per_block..(block + 1) * per_block)
            {
                let bit = (sector % (1 << 23)) as usize;
                image[place as usize + bit / 8] |= 1 << (bit % 8);
            }
        }
    }
}

fn locator(pairs: &[(&str, String)]) -> Vec<u8> {
    let mut bytes = guid(LOCATOR_TYPE).to_vec();
    bytes.extend([0, 0]);
    bytes.extend((pairs.len() as u16).to_le_bytes());
    let mut texts = Vec::new();
    for (key, value) in pairs {
        let start = 20 + 12 * pairs.len() + texts.len();
        let key: Vec<u8> = key.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let value: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
        bytes.extend((start as u32).to_le_bytes());
        bytes.extend(((start + key.len()) as u32).to_le_bytes());
        bytes.extend((key.len() as u16).to_le_bytes());
        bytes.extend((value.len() as u16).to_le_bytes());
        texts.extend([key, value].concat());
    }
    bytes.extend(texts);
    bytes
}

/// What a log entry changes.
pub(crate) enum Change {
    Zero { offset: u64, len: u64 },
    Page { offset: u64, bytes: Vec<u8> },
}

/// A log entry.
pub(crate) struct Entry {
    pub(crate) number: u64,
    /// Offset in the log of the first entry of the sequence.
    pub(crate) tail: usize,
    pub(crate) flushed: u64,
    pub(crate) last: u64,
    pub(crate) changes: Vec<Change>,
}

pub(crate) const LOG_GUID: u128 = 0x4444;

impl Entry {
    pub(crate) fn build(&self) -> Vec<u8> {
        let head = (64 + 32 * self.changes.len()).next_multiple_of(4096);
        let mut bytes = vec![0; head];
        for (index, change) in self.changes.iter().enumerate() {
            let at = 64 + 32 * index;
            let offset = match change {
                Change::Zero { offset, len } => {
                    put(&mut bytes, at, b"zero");
                    put(&mut bytes, at + 8, &len.to_le_bytes());
                    offset
                }
                Change::Page {
                    offset,
                    bytes: page,
                } => {
                    put(&mut bytes, at, b"desc");
                    put(&mut bytes, at + 4, &page[4092..]);
                    put(&mut bytes, at + 8, &page[..8]);
                    let start = bytes.len();
                    bytes.extend_from_slice(page);
                    put(&mut bytes, start, b"data");
                    put(
                        &mut bytes,
                        start + 4,
                        &((self.number >> 32) as u32).to_le_bytes(),
                    );
                    put(
                        &mut bytes,
                        start + 4092,
                        &(self.number as u32).to_le_bytes(),
                    );
                    offset
                }
            };
            put(&mut bytes, at + 16, &offset.to_le_bytes());
            put(&mut bytes, at + 24, &self.number.to_le_bytes());
        }
        put(&mut bytes, 0, b"loge");
        let len = bytes.len() as u32;
        put(&mut bytes, 8, &len.to_le_bytes());
        put(&mut bytes, 12, &(self.tail as u32).to_le_bytes());
        put(&mut bytes, 16, &self.number.to_le_bytes());
        put(&mut bytes, 24, &(self.changes.len() as u32).to_le_bytes());
        put(&mut bytes, 32, &guid(LOG_GUID));
        put(&mut bytes, 48, &self.flushed.to_le_bytes());
        put(&mut bytes, 56, &self.last.to_le_bytes());
        seal(&mut bytes);
        bytes
    }
}

/// Says in both headers that the log is not empty.
pub(crate) fn set_dirty(image: &mut [u8]) {
    for at in HEADERS {
        put(image, at + 48, &guid(LOG_GUID));
        reseal(image, at, 4096);
    }
}

/// Puts bytes into the ring of the log.
pub(crate) fn put_in_log(image: &mut [u8], at: usize, bytes: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        image[LOG + (at + index) % MIB] = *byte;
    }
}
