//! Writes `.vmcx` files, byte by byte after the table in `vmcx/mod.rs`; shares no code with the reader.

use std::collections::HashMap;

use super::sample::{Item, Keys};

/// How a file is laid out.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Keys of one table before the next begins.
    pub(super) keys_a_table: usize,
    /// Values of at least this many bytes go to objects of their own.
    pub(super) big: usize,
    /// Sequence numbers of the headers.
    pub(super) headers: [u16; 2],
    /// Outstanding changes of the log.
    pub(super) changes: u32,
    /// Version of the headers.
    pub(super) version: u32,
    /// False: all checksums are rubbish.
    pub(super) checksums: bool,
    /// Objects from this one on stand in a second object table.
    pub(super) second_table: Option<usize>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            keys_a_table: 40,
            big: 0x800,
            headers: [7, 6],
            changes: 0,
            version: 0x400,
            checksums: true,
            second_table: None,
        }
    }
}

/// zlib's CRC-32, from its own table.
fn crc(bytes: &[u8]) -> u32 {
    let mut table = [0u32; 256];
    for (index, slot) in (0u32..).zip(&mut table) {
        *slot = (0..8).fold(index, |value, _| {
            if value & 1 == 1 {
                0xedb8_8320 ^ (value >> 1)
            } else {
                value >> 1
            }
        });
    }
    !bytes.iter().fold(!0u32, |value, byte| {
        table[((value ^ u32::from(*byte)) & 0xff) as usize] ^ (value >> 8)
    })
}

/// Puts the checksum over a structure whose field is zero yet.
fn seal(bytes: &mut [u8], field: usize, layout: &Layout) {
    let sum = if layout.checksums {
        crc(bytes)
    } else {
        0x1234_5678
    };
    bytes[field..field + 4].copy_from_slice(&sum.to_le_bytes());
}

fn header(sequence: u16, log: u64, layout: &Layout) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0x0128_2014_u32.to_le_bytes());
    out.extend([0; 4]);
    out.extend(sequence.to_le_bytes());
    out.extend(layout.version.to_le_bytes());
    out.extend(3u64.to_le_bytes());
    out.extend(0x1000_u32.to_le_bytes());
    out.extend(log.to_le_bytes());
    out.extend(0x1000_u64.to_le_bytes());
    out.extend(0x1000_u32.to_le_bytes());
    assert_eq!(out.len(), 0x2e);
    seal(&mut out, 4, layout);
    out
}

fn log(layout: &Layout) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0x0111_0003_u32.to_le_bytes());
    out.extend([0; 4]);
    out.extend(layout.changes.to_le_bytes());
    out.push(1);
    out.extend(16u32.to_le_bytes());
    out.resize(0x22, 0);
    seal(&mut out, 4, layout);
    out
}

/// Objects of the file: kind, offset, bytes.
struct Objects(Vec<(u8, u64, Vec<u8>)>);

/// Everything from here on is objects.
const FIRST_OBJECT: u64 = 0x6000;

impl Objects {
    fn add(&mut self, kind: u8, bytes: Vec<u8>) -> u64 {
        let next = self.0.last().map_or(FIRST_OBJECT, |(_, offset, bytes)| {
            (offset + bytes.len() as u64).next_multiple_of(0x1000)
        });
        self.0.push((kind, next, bytes));
        next
    }
}

fn object_table(objects: &[(u8, u64, u32)], layout: &Layout) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0x0111_0001_u32.to_le_bytes());
    out.extend(u32::try_from(objects.len()).unwrap().to_le_bytes());
    for (kind, offset, size) in objects {
        let mut entry = vec![*kind];
        entry.extend([0; 4]);
        entry.extend(offset.to_le_bytes());
        entry.extend(size.to_le_bytes());
        entry.push(u8::from(*kind != 4));
        seal(&mut entry, 1, layout);
        out.extend(entry);
    }
    out
}

/// Kind, flags and stored bytes of a value.
fn value(item: &Item, layout: &Layout, objects: &mut Objects) -> (u8, u8, Vec<u8>) {
    let (kind, bytes) = match item {
        Item::Integer(number) => return (3, 0, number.to_le_bytes().to_vec()),
        Item::Bool(value) => return (8, 0, u32::from(*value).to_le_bytes().to_vec()),
        Item::Text(text) => (
            6,
            text.encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<u8>>(),
        ),
        Item::Bytes(bytes) => (7, bytes.clone()),
    };
    let mut out = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
    if bytes.len() >= layout.big {
        let mut padded = bytes;
        padded.resize(padded.len().next_multiple_of(0x1000), 0);
        out.extend(objects.add(3, padded).to_le_bytes());
        return (kind, 1, out);
    }
    out.extend(bytes);
    (kind, 0, out)
}

/// Key tables while they are filled.
struct Tables {
    tables: Vec<Vec<u8>>,
    keys: usize,
    nodes: HashMap<String, (u16, u32)>,
}

impl Tables {
    fn put(
        &mut self,
        name: &str,
        parent: Option<(u16, u32)>,
        stored: (u8, u8, Vec<u8>),
        layout: &Layout,
    ) -> (u16, u32) {
        if self.keys == 0 {
            let index = u16::try_from(self.tables.len() + 1).unwrap();
            let mut front = 2u16.to_le_bytes().to_vec();
            front.extend(index.to_le_bytes());
            front.extend(1u16.to_le_bytes());
            front.extend([0; 4]);
            seal(&mut front, 6, layout);
            // A gap where a key was removed.
            front.extend([1, 0, 25, 0, 0, 0]);
            front.resize(10 + 25, 0);
            self.tables.push(front);
        }
        self.keys = (self.keys + 1) % layout.keys_a_table;
        let index = u16::try_from(self.tables.len()).unwrap();
        let table = self.tables.last_mut().unwrap();
        let at = u32::try_from(table.len()).unwrap();
        let (kind, flags, data) = stored;
        let size = u32::try_from(21 + name.len() + 1 + data.len()).unwrap();
        let (parent_table, parent_offset) = parent.unwrap_or((0, 0));
        table.extend([kind, flags]);
        table.extend(size.to_le_bytes());
        table.extend(parent_table.to_le_bytes());
        table.extend(parent_offset.to_le_bytes());
        table.extend(0xdead_beef_u32.to_le_bytes());
        table.extend(at.to_le_bytes());
        table.push(u8::try_from(name.len() + 1).unwrap());
        table.extend(name.as_bytes());
        table.push(0);
        table.extend(data);
        (index, at)
    }

    /// The node at `path`, made where it is absent.
    fn node(&mut self, path: &str, layout: &Layout) -> (u16, u32) {
        if let Some(found) = self.nodes.get(path) {
            return *found;
        }
        let (parent, name) = match path.rsplit_once('/') {
            Some((above, name)) => (Some(self.node(above, layout)), name),
            None => (None, path),
        };
        let placed = self.put(name, parent, (9, 0, vec![0; 12]), layout);
        self.nodes.insert(path.to_owned(), placed);
        placed
    }
}

/// A whole file.
pub(super) fn vmcx(keys: &Keys, layout: &Layout) -> Vec<u8> {
    let mut objects = Objects(Vec::new());
    let mut tables = Tables {
        tables: Vec::new(),
        keys: 0,
        nodes: HashMap::new(),
    };
    for (path, item) in keys {
        let full = format!("configuration/{path}");
        let (above, name) = full.rsplit_once('/').unwrap();
        if above.ends_with("devicetype") {
            tables.nodes.remove(above);
        }
        let parent = tables.node(above, layout);
        let stored = value(item, layout, &mut objects);
        tables.put(name, Some(parent), stored, layout);
    }
    for mut table in tables.tables {
        table.resize(table.len().next_multiple_of(0x1000), 0);
        objects.add(2, table);
    }
    let log_at = 0x5000;
    let mut listed: Vec<(u8, u64, u32)> = vec![(6, log_at, 0x1000), (4, 0xffff_ffff, 0)];
    listed.extend(
        objects
            .0
            .iter()
            .map(|(kind, offset, bytes)| (*kind, *offset, u32::try_from(bytes.len()).unwrap())),
    );
    let rest = layout.second_table.map(|from| listed.split_off(from));
    let mut parts = vec![
        (0, header(layout.headers[0], log_at, layout)),
        (0x1000, header(layout.headers[1], log_at, layout)),
        (log_at, log(layout)),
    ];
    if let Some(rest) = rest {
        listed.push((1, 0x4000, 0x1000));
        parts.push((0x4000, object_table(&rest, layout)));
    }
    parts.push((0x2000, object_table(&listed, layout)));
    parts.extend(
        objects
            .0
            .into_iter()
            .map(|(_, offset, bytes)| (offset, bytes)),
    );
    let mut file = Vec::new();
    for (offset, bytes) in parts {
        let start = usize::try_from(offset).unwrap();
        if file.len() < start + bytes.len() {
            file.resize(start + bytes.len(), 0);
        }
        file[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    file
}
