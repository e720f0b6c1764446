//! Images laid out by hand: block sizes, chains and oddities that no program here writes. Nothing of the readers is
//! used.

/// What a builder is told of each block: its bytes, and which of its sectors the image holds.
pub(crate) struct Layer {
    /// The whole disk as this image should show it.
    pub(crate) disk: Vec<u8>,
    /// For each sector, whether this image holds it.
    pub(crate) own: Vec<bool>,
}

pub(crate) fn checksum(bytes: &[u8]) -> [u8; 4] {
    (!bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>()).to_be_bytes()
}

/// A VHD to be built.
#[derive(Clone)]
pub(crate) struct Vhd {
    pub(crate) block_size: u32,
    pub(crate) creator: [u8; 4],
    pub(crate) id: u8,
    pub(crate) parent_id: u8,
    pub(crate) parent_name: String,
    /// Locators: platform code, data.
    pub(crate) locators: Vec<([u8; 4], Vec<u8>)>,
    /// 2, 3 or 4.
    pub(crate) disk_type: u8,
    pub(crate) geometry: (u16, u8, u8),
}

impl Vhd {
    pub(crate) fn dynamic(block_size: u32, id: u8) -> Self {
        Self {
            block_size,
            creator: *b"win ",
            id,
            parent_id: 0,
            parent_name: String::new(),
            locators: Vec::new(),
            disk_type: 3,
            geometry: (120, 4, 17),
        }
    }

    pub(crate) fn child(block_size: u32, id: u8, parent_id: u8, parent: &str) -> Self {
        Self {
            parent_id,
            parent_name: parent.to_owned(),
            disk_type: 4,
            ..Self::dynamic(block_size, id)
        }
    }

    pub(crate) fn footer(&self, current_size: u64) -> Vec<u8> {
        let mut footer = vec![0; 512];
        footer[..8].copy_from_slice(b"conectix");
        footer[11] = 2;
        footer[13] = 1;
        let data_offset = if self.disk_type == 2 { u64::MAX } else { 512 };
        footer[16..24].copy_from_slice(&data_offset.to_be_bytes());
        footer[28..32].copy_from_slice(&self.creator);
        footer[40..48].copy_from_slice(&current_size.to_be_bytes());
        footer[48..56].copy_from_slice(&current_size.to_be_bytes());
        footer[56..58].copy_from_slice(&self.geometry.0.to_be_bytes());
        footer[58] = self.geometry.1;
        footer[59] = self.geometry.2;
        footer[63] = self.disk_type;
        footer[68..84].fill(self.id);
        let sum = checksum(&footer);
        footer[64..68].copy_from_slice(&sum);
        footer
    }

    fn header(&self, table: u64, entries: u32, locators_at: u64) -> Vec<u8> {
        let mut header = vec![0; 1024];
        header[..8].copy_from_slice(b"cxsparse");
        header[8..16].fill(0xff);
        header[16..24].copy_from_slice(&table.to_be_bytes());
        header[25] = 1;
        header[28..32].copy_from_slice(&entries.to_be_bytes());
        header[32..36].copy_from_slice(&self.block_size.to_be_bytes());
        header[40..56].fill(self.parent_id);
        for (at, unit) in self.parent_name.encode_utf16().enumerate() {
            header[64 + at * 2..66 + at * 2].copy_from_slice(&unit.to_be_bytes());
        }
        for (at, (platform, data)) in self.locators.iter().enumerate() {
            let entry = &mut header[576 + at * 24..600 + at * 24];
            entry[..4].copy_from_slice(platform);
            entry[8..12].copy_from_slice(&(data.len() as u32).to_be_bytes());
            entry[16..24].copy_from_slice(&(locators_at + at as u64 * 512).to_be_bytes());
        }
        let sum = checksum(&header);
        header[36..40].copy_from_slice(&sum);
        header
    }

    /// The file. Blocks lie in reverse order; a block of which nothing is own has no place.
    pub(crate) fn build(&self, layer: &Layer) -> Vec<u8> {
        let block = self.block_size as usize;
        let size = layer.disk.len();
        let entries = size.div_ceil(block);
        let table_at = 512 + 1024 + 8 * 512;
        let mut file = self.footer(size as u64);
        file.extend(self.header(table_at as u64, entries as u32, 1536));
        file.resize(table_at, 0);
        for (at, (_, data)) in self.locators.iter().enumerate() {
            let start = 1536 + at * 512;
            file[start..start + data.len()].copy_from_slice(data);
        }
        file.resize((table_at + entries * 4).next_multiple_of(512), 0xff);
        for index in (0..entries).rev() {
            let start = index * block;
            let end = (start + block).min(size);
            let own = &layer.own[start / 512..end / 512];
            if !own.contains(&true) {
                continue;
            }
            let at = table_at + index * 4;
            let sector = (file.len() / 512) as u32;
            file[at..at + 4].copy_from_slice(&sector.to_be_bytes());
            let mut bitmap = vec![0u8; (block / 512).div_ceil(8).next_multiple_of(512)];
            // Sectors that are not own hold rubbish, which must not be seen.
            let mut data = vec![0xee; block];
            for (sector, own) in own.iter().enumerate() {
                if *own {
                    bitmap[sector / 8] |= 0x80 >> (sector % 8);
                    let from = start + sector * 512;
                    data[sector * 512..sector * 512 + 512]
                        .copy_from_slice(&layer.disk[from..from + 512]);
                }
            }
            file.extend(bitmap);
            file.extend(data);
        }
        file.extend(self.footer(size as u64));
        file
    }
}

/// A VDI to be built.
#[derive(Clone)]
pub(crate) struct Vdi {
    pub(crate) block_size: u32,
    pub(crate) block_extra: u32,
    /// 1, 2 or 4.
    pub(crate) image_type: u32,
    pub(crate) id: u8,
    pub(crate) parent_id: u8,
}

impl Vdi {
    /// The file. A block of which nothing is own is free, or zero where `zeroes` says so; blocks lie in reverse.
    pub(crate) fn build(&self, layer: &Layer, zeroes: &[bool]) -> Vec<u8> {
        let block = self.block_size as usize;
        let size = layer.disk.len();
        let blocks = size.div_ceil(block);
        let data_at = (512 + blocks * 4).next_multiple_of(512);
        let mut file = vec![0; data_at];
        file[..20].copy_from_slice(b"<<< Test image >>>\n\0");
        let mut number = |at: usize, value: u32| {
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        number(0x40, 0xbeda_107f);
        number(0x44, 0x0001_0001);
        number(0x48, 400);
        number(0x4c, self.image_type);
        number(0x154, 512);
        number(0x158, data_at as u32);
        number(0x168, 512);
        number(0x170, size as u32);
        number(0x178, self.block_size);
        number(0x17c, self.block_extra);
        number(0x180, blocks as u32);
        file[0x188..0x1a8].fill(self.id);
        file[0x1a8..0x1c8].fill(self.parent_id);
        let mut next = 0u32;
        for index in (0..blocks).rev() {
            let start = index * block;
            let end = (start + block).min(size);
            let entry = if layer.own[start / 512..end / 512].contains(&true) {
                file.extend(std::iter::repeat_n(0xee, self.block_extra as usize));
                file.extend(&layer.disk[start..end]);
                file.extend(std::iter::repeat_n(0xee, start + block - end));
                next += 1;
                next - 1
            } else if zeroes.get(index) == Some(&true) {
                0xffff_fffe
            } else {
                0xffff_ffff
            };
            file[512 + index * 4..516 + index * 4].copy_from_slice(&entry.to_le_bytes());
        }
        file[0x184..0x188].copy_from_slice(&next.to_le_bytes());
        file
    }
}

/// A Parallels image: `ext` places clusters by number instead of by sector.
pub(crate) fn parallels(disk: &[u8], cluster_sectors: u32, ext: bool) -> Vec<u8> {
    let cluster = cluster_sectors as usize * 512;
    let clusters = disk.len().div_ceil(cluster);
    let bat_end = 64 + clusters * 4;
    let data_at = bat_end.next_multiple_of(if ext { cluster } else { 512 });
    let mut file = vec![0; data_at];
    file[..16].copy_from_slice(if ext {
        b"WithouFreSpacExt"
    } else {
        b"WithoutFreeSpace"
    });
    for (at, value) in [
        (16, 2),
        (28, cluster_sectors),
        (32, clusters as u32),
        (36, (disk.len() / 512) as u32),
        (44, 0x312e_3276),
        (48, if ext { (data_at / 512) as u32 } else { 0 }),
    ] {
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    for index in (0..clusters).rev() {
        let bytes = &disk[index * cluster..disk.len().min((index + 1) * cluster)];
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let place = file.len() / if ext { cluster } else { 512 };
        file[64 + index * 4..68 + index * 4].copy_from_slice(&(place as u32).to_le_bytes());
        file.extend(bytes);
        file.resize(file.len() + cluster - bytes.len(), 0xee);
    }
    file
}
