//! Device paths (UEFI 2.10, chapter 10): a chain of nodes, each with its type, subtype and length, ended by an end node.
//! Two kinds are understood: a partition of a hard drive, and a file.

use types::Guid;

/// Type and subtype of a partition of a hard drive (10.3.5.1).
const HARD_DRIVE: (u8, u8) = (4, 1);
/// Type and subtype of a file's path (10.3.5.4).
const FILE_PATH: (u8, u8) = (4, 4);
/// Type of nodes that end a path, and the subtype of one that ends all of it (10.3.1).
const END: u8 = 0x7f;
const END_ENTIRE: u8 = 0xff;
/// Type, subtype and length of a node (10.3.1).
const HEADER_LEN: usize = 4;
/// Length of a partition's node (10.3.5.1).
const HARD_DRIVE_LEN: u16 = 42;
/// SignatureType of a partition's node: the MBR's number of the disk, or the GPT's GUID of the partition; the numbers for the
/// kind of table are the same.
const MBR: u8 = 1;
const GPT: u8 = 2;

/// One node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Where it begins in the path.
    pub at: usize,
    /// Type and subtype.
    pub kind: (u8, u8),
    /// What follows its header.
    pub body: &'a [u8],
}

/// The nodes of the first path, its end left out. Stops at damage.
pub fn nodes(path: &[u8]) -> impl Iterator<Item = Node<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let node = node(path, at).filter(|node| node.kind.0 != END)?;
        at += HEADER_LEN + node.body.len();
        Some(node)
    })
}

/// True where node follows node up to one that ends all.
pub fn is_whole(path: &[u8]) -> bool {
    let len = nodes(path).fold(0, |_, node| node.at + HEADER_LEN + node.body.len());
    node(path, len).is_some_and(|end| end.kind == (END, END_ENTIRE) && end.body.is_empty())
}

fn node(path: &[u8], at: usize) -> Option<Node<'_>> {
    let header = path.get(at..at.checked_add(HEADER_LEN)?)?;
    let len = usize::from(u16::from_le_bytes([header[2], header[3]]));
    let body = path.get(at + HEADER_LEN..at.checked_add(len)?)?;
    Some(Node {
        at,
        kind: (header[0], header[1]),
        body,
    })
}

/// What tells a partition from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Number that the MBR gives its disk.
    Mbr(u32),
    /// GUID that the GPT gives it.
    Gpt(Guid),
}

/// A partition as its node describes it: Linux's and Windows's firmware entries begin with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardDrive {
    /// Number in its table, from 1.
    pub number: u32,
    /// First block; the disk's own logical blocks are meant.
    pub start_blocks: u64,
    /// Number of blocks.
    pub size_blocks: u64,
    /// What it is found by.
    pub signature: Signature,
}

impl HardDrive {
    /// The partition that this node names; `None` for other nodes, and where there is no signature to find it by.
    pub fn of(node: Node<'_>) -> Option<Self> {
        let body: &[u8; 38] = node
            .body
            .try_into()
            .ok()
            .filter(|_| node.kind == HARD_DRIVE)?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let signature = match body[37] {
            MBR => Signature::Mbr(u32_at(20)?),
            GPT => Signature::Gpt(Guid(body.get(20..36)?.try_into().ok()?)),
            _ => return None,
        };
        Some(Self {
            number: u32_at(0)?,
            start_blocks: u64_at(4)?,
            size_blocks: u64_at(12)?,
            signature,
        })
    }

    /// Its node.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut node = vec![HARD_DRIVE.0, HARD_DRIVE.1];
        node.extend(HARD_DRIVE_LEN.to_le_bytes());
        node.extend(self.number.to_le_bytes());
        node.extend(self.start_blocks.to_le_bytes());
        node.extend(self.size_blocks.to_le_bytes());
        let (signature, kind) = match self.signature {
            Signature::Gpt(guid) => (guid.0, GPT),
            Signature::Mbr(number) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&number.to_le_bytes());
                (bytes, MBR)
            }
        };
        node.extend(signature);
        node.extend([kind, kind]);
        node
    }

    /// As /dev/disk/by-partuuid names it: the GUID, or number of disk and partition.
    pub fn partuuid(&self) -> String {
        match self.signature {
            Signature::Gpt(guid) => guid.to_string(),
            Signature::Mbr(disk) => format!("{disk:08x}-{:02x}", self.number),
        }
    }
}

impl Signature {
    /// What a name of /dev/disk/by-partuuid says.
    pub fn of_partuuid(partuuid: &str) -> Option<Self> {
        if let Ok(guid) = partuuid.parse() {
            return Some(Self::Gpt(guid));
        }
        let (disk, _) = partuuid.split_once('-')?;
        let is_number = disk.len() == 8 && disk.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u32::from_str_radix(disk, 16).ok().filter(|_| is_number)?;
        Some(Self::Mbr(number))
    }
}

/// The path that the file nodes of `nodes` make together, with backslashes.
pub fn file<'a>(nodes: impl Iterator<Item = Node<'a>>) -> String {
    let mut path = String::new();
    for node in nodes.filter(|node| node.kind == FILE_PATH) {
        let part = crate::text(node.body);
        let is_joined = path.is_empty() || path.ends_with('\\') || part.starts_with('\\');
        if !is_joined {
            path.push('\\');
        }
        path.push_str(&part);
    }
    path
}

/// A file on a partition, begun with the partition's own node: firmware looks for it on all disks (UEFI 2.10, 3.1.2).
/// `None` for a path longer than a node can be.
pub fn file_on(drive: &HardDrive, path: &str) -> Option<Vec<u8>> {
    let name = crate::utf16(path);
    let len = u16::try_from(HEADER_LEN + name.len()).ok()?;
    let mut bytes = drive.to_bytes();
    bytes.extend([FILE_PATH.0, FILE_PATH.1]);
    bytes.extend(len.to_le_bytes());
    bytes.extend(name);
    bytes.extend([END, END_ENTIRE, 4, 0]);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn drive() -> HardDrive {
        HardDrive {
            number: 1,
            start_blocks: 0x800,
            size_blocks: 0x32000,
            signature: Signature::of_partuuid("aaaaaaaa-0001-4000-8000-0123456789ab").unwrap(),
        }
    }

    #[test]
    fn a_partitions_node_has_its_fields_where_the_specification_puts_them() {
        let bytes = drive().to_bytes();
        assert_eq!(bytes.len(), 42);
        assert_eq!(bytes[..8], [4, 1, 42, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[8..16], 0x800u64.to_le_bytes());
        assert_eq!(bytes[16..24], 0x32000u64.to_le_bytes());
        assert_eq!(bytes[24..32], [0xaa, 0xaa, 0xaa, 0xaa, 1, 0, 0, 0x40]);
        assert_eq!(bytes[40..], [2, 2]);
        let mbr = HardDrive {
            number: 2,
            signature: Signature::of_partuuid("1234abcd-02").unwrap(),
            ..drive()
        };
        let bytes = mbr.to_bytes();
        assert_eq!(bytes[24..30], [0xcd, 0xab, 0x34, 0x12, 0, 0]);
        assert_eq!(bytes[40..], [1, 1]);
        assert_eq!(mbr.partuuid(), "1234abcd-02");
        assert_eq!(Signature::of_partuuid("+234abcd-02"), None);
    }

    #[test]
    fn a_path_reads_back() {
        let path = file_on(&drive(), r"\EFI\debian\shimx64.efi").unwrap();
        assert!(is_whole(&path));
        let found: Vec<_> = nodes(&path).collect();
        assert_eq!(HardDrive::of(found[0]), Some(drive()));
        assert_eq!(HardDrive::of(found[1]), None);
        assert_eq!(file(nodes(&path)), r"\EFI\debian\shimx64.efi");
        assert_eq!(file_on(&drive(), &"x".repeat(40_000)), None);
    }

    #[test]
    fn damaged_paths_are_not_whole_and_harm_nobody() {
        let path = file_on(&drive(), r"\x").unwrap();
        for cut in 0..path.len() {
            assert!(!is_whole(&path[..cut]));
        }
        for at in 0..path.len() {
            for value in [0, 1, 3, 4, 0x7f, 0xff] {
                let mut bad = path.clone();
                bad[at] = value;
                assert!(nodes(&bad).count() <= bad.len());
                let _ = (is_whole(&bad), file(nodes(&bad)));
            }
        }
    }
}
