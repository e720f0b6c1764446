//! The binary module lists of kmod, `modules.*.bin`: a trie from names to values (kmod, libkmod/libkmod-index.h).
//!
//! ```text
//!   header   magic u32, version u32, place of the root u32
//!   node     [prefix, ended by 0] [first u8, last u8, place of each child u32] [count u32, count × (priority u32, value, ended by 0)]
//! ```
//!
//! All numbers are big-endian. The four uppermost bits of a place tell which parts the node there has; a place without the
//! others is no child. A child's name goes on behind the byte by which it was found.

use std::collections::BTreeMap;

/// `modules.*.bin` since module-init-tools 3.5.
const MAGIC: u32 = 0xb007_f457;
/// 2.1, the only one that was ever written.
const VERSION: u32 = 0x0002_0001;
const HEADER: usize = 12;
const HAS_PREFIX: u32 = 1 << 31;
const HAS_VALUES: u32 = 1 << 30;
const HAS_CHILDREN: u32 = 1 << 29;
const PLACE: u32 = (1 << 28) - 1;
/// The longest aliases of a distribution's kernel have about 400 bytes.
const KEY_MAX: usize = 1024;
/// Keys and values of one list together: a distribution's kernel has some 3 MiB. Nodes that are children of many would make
/// any amount of them.
const READ_MAX: usize = 64 << 20;

/// A value, and its place among those of the same name: the lesser comes first.
pub(crate) type Value = (u32, Vec<u8>);

/// One list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KmodIndex {
    entries: BTreeMap<Vec<u8>, Vec<Value>>,
}

impl KmodIndex {
    /// Reads a list; `None` when it is not one of this kind or not whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let reader = Reader { bytes };
        if reader.number(0)? != MAGIC || reader.number(4)? != VERSION {
            return None;
        }
        let mut index = Self::default();
        let mut left = READ_MAX;
        let mut todo = vec![(reader.number(8)?, Vec::new())];
        while let Some((place, key)) = todo.pop() {
            left = left.checked_sub(key.len() + 1)?;
            let node = reader.node(place, key)?;
            for (byte, child) in node.children {
                let mut key = node.key.clone();
                key.push(byte);
                left = left.checked_sub(key.len())?;
                todo.push((child, key));
            }
            let size: usize = node.values.iter().map(|(_, value)| value.len()).sum();
            left = left.checked_sub(size)?;
            if !node.values.is_empty() {
                index.entries.insert(node.key, node.values);
            }
        }
        Some(index)
    }

    /// Names and their values.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], &[Value])> {
        self.entries
            .iter()
            .map(|(key, values)| (key.as_slice(), values.as_slice()))
    }

    /// First value of a name.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key.as_bytes())?.first()
    }

    /// Adds a value where its priority puts it, in front of those of the same, as depmod does.
    pub(crate) fn add(&mut self, key: &[u8], priority: u32, value: &[u8]) {
        let values = self.entries.entry(key.to_vec()).or_default();
        let at = values.partition_point(|(other, _)| *other < priority);
        values.insert(at, (priority, value.to_vec()));
    }

    /// The list as a file; `None` when it is too large for its places, or a name is not ASCII or has a zero in it.
    pub(crate) fn write(&self) -> Option<Vec<u8>> {
        let entries: Vec<Entry<'_>> = self.entries.iter().collect();
        let is_plain = |key: &[u8]| key.is_ascii() && !key.contains(&0) && key.len() <= KEY_MAX;
        if !entries.iter().all(|(key, _)| is_plain(key)) {
            return None;
        }
        let mut out = Vec::new();
        out.extend(MAGIC.to_be_bytes());
        out.extend(VERSION.to_be_bytes());
        out.extend([0; 4]);
        let root = write_node(&entries, 0, &mut out)?;
        out.get_mut(8..HEADER)?.copy_from_slice(&root.to_be_bytes());
        Some(out)
    }
}

type Entry<'e> = (&'e Vec<u8>, &'e Vec<Value>);

struct Node {
    key: Vec<u8>,
    children: Vec<(u8, u32)>,
    values: Vec<Value>,
}

struct Reader<'b> {
    bytes: &'b [u8],
}

impl Reader<'_> {
    fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    /// What stands there up to the next zero byte.
    fn text(&self, at: usize) -> Option<&[u8]> {
        let rest = self.bytes.get(at..)?;
        rest.get(..rest.iter().position(|&byte| byte == 0)?)
    }

    fn node(&self, place: u32, mut key: Vec<u8>) -> Option<Node> {
        let mut at = usize::try_from(place & PLACE).ok()?;
        if at < HEADER {
            return None;
        }
        if place & HAS_PREFIX != 0 {
            let prefix = self.text(at)?;
            key.extend(prefix);
            at += prefix.len() + 1;
        }
        if key.len() > KEY_MAX {
            return None;
        }
        let mut children = Vec::new();
        if place & HAS_CHILDREN != 0 {
            let (first, last) = (*self.bytes.get(at)?, *self.bytes.get(at + 1)?);
            if first > last || !last.is_ascii() {
                return None;
            }
            at += 2;
            for byte in first..=last {
                let child = self.number(at)?;
                if child & PLACE != 0 {
                    children.push((byte, child));
                }
                at += 4;
            }
        }
        let mut values = Vec::new();
        if place & HAS_VALUES != 0 {
            let count = self.number(at)?;
            at += 4;
            for _ in 0..count {
                let priority = self.number(at)?;
                let value = self.text(at + 4)?;
                at += 4 + value.len() + 1;
                values.push((priority, value.to_vec()));
            }
        }
        Some(Node {
            key,
            children,
            values,
        })
    }
}

fn rest<'e>(entry: &Entry<'e>, depth: usize) -> &'e [u8] {
    entry.0.get(depth..).unwrap_or_default()
}

/// Writes the node of `entries`, whose names are the same up to `depth`, behind its children; returns its place.
fn write_node(entries: &[Entry<'_>], depth: usize, out: &mut Vec<u8>) -> Option<u32> {
    let (first, last) = match entries {
        [first, .., last] => (rest(first, depth), rest(last, depth)),
        [only] => (rest(only, depth), rest(only, depth)),
        [] => (&[][..], &[][..]),
    };
    // In order, so that what the first and the last have in common, all have.
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let prefix = first.get(..common).unwrap_or_default();
    let end = depth + common;
    let (own, below) = match entries.split_first() {
        Some((first, below)) if first.0.len() == end => (Some(first.1), below),
        _ => (None, entries),
    };
    let next = |entry: &Entry<'_>| entry.0.get(end).copied().unwrap_or_default();
    let mut children = BTreeMap::new();
    for group in below.chunk_by(|a, b| next(a) == next(b)) {
        let byte = group.first().map(next).unwrap_or_default();
        children.insert(byte, write_node(group, end + 1, out)?);
    }
    let mut place = u32::try_from(out.len()).ok()?;
    if place > PLACE {
        return None;
    }
    if !prefix.is_empty() {
        place |= HAS_PREFIX;
        out.extend(prefix);
        out.push(0);
    }
    if let (Some((first, _)), Some((last, _))) =
        (children.first_key_value(), children.last_key_value())
    {
        place |= HAS_CHILDREN;
        out.extend([*first, *last]);
        for byte in *first..=*last {
            let child = children.get(&byte).copied().unwrap_or(0);
            out.extend(child.to_be_bytes());
        }
    }
    if let Some(values) = own {
        place |= HAS_VALUES;
        out.extend(u32::try_from(values.len()).ok()?.to_be_bytes());
        for (priority, value) in values {
            out.extend(priority.to_be_bytes());
            out.extend(value);
            out.push(0);
        }
    }
    Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_LEN: u32 = 12;

    #[test]
    fn a_list_has_its_nodes_where_the_format_says() {
        let mut index = KmodIndex::default();
        index.add(b"ab", 7, b"x");
        index.add(b"ad", 1, b"yz");
        let bytes = index.write().unwrap();
        let numbers: Vec<u32> = bytes
            .chunks_exact(4)
            .take(3)
            .map(|four| u32::from_be_bytes(four.try_into().unwrap()))
            .collect();
        // Two leaves of 4 + 4 + 2 and 4 + 4 + 3 bytes stand before the root.
        let root = HEADER_LEN + 10 + 11;
        assert_eq!(numbers, [MAGIC, VERSION, root | HAS_PREFIX | HAS_CHILDREN]);
        let expected = [
            b"\0\0\0\x01\0\0\0\x07x\0".as_slice(),
            b"\0\0\0\x01\0\0\0\x01yz\0",
            b"a\0bd",
            &(12 | HAS_VALUES).to_be_bytes(),
            &[0; 4],
            &(22 | HAS_VALUES).to_be_bytes(),
        ];
        assert_eq!(bytes[HEADER..], expected.concat());
        assert_eq!(KmodIndex::read(&bytes).unwrap(), index);
    }

    #[test]
    fn values_are_in_the_order_of_their_priorities() {
        let mut index = KmodIndex::default();
        for (priority, value) in [(5, b"e"), (1, b"a"), (9, b"i")] {
            index.add(b"pci:*", priority, value);
        }
        let again = KmodIndex::read(&index.write().unwrap()).unwrap();
        let (_, values) = again.entries().next().unwrap();
        let order: Vec<u32> = values.iter().map(|(priority, _)| *priority).collect();
        assert_eq!(order, [1, 5, 9]);
    }

    #[test]
    fn an_empty_list_is_one() {
        let empty = KmodIndex::default();
        let bytes = empty.write().unwrap();
        assert_eq!(KmodIndex::read(&bytes), Some(empty));
    }

    /// Each child of each node is the node itself: without limits, this would never end.
    #[test]
    fn nodes_that_are_their_own_children_are_refused() {
        let mut bytes = [MAGIC, VERSION, HEADER_LEN | HAS_CHILDREN]
            .map(u32::to_be_bytes)
            .concat();
        bytes.extend(b"ab");
        bytes.extend((HEADER_LEN | HAS_CHILDREN).to_be_bytes());
        bytes.extend((HEADER_LEN | HAS_CHILDREN).to_be_bytes());
        assert_eq!(KmodIndex::read(&bytes), None);
    }

    #[test]
    fn damaged_lists_are_refused_or_read_and_never_panic() {
        let mut index = KmodIndex::default();
        for number in 0..40u32 {
            let key = format!("pci:v00001AF4d0000{:04X}sv*", number * 77);
            index.add(key.as_bytes(), number % 5, b"virtio_pci");
            index.add(b"pci:*", number, b"virtio_pci");
        }
        let bytes = index.write().unwrap();
        assert_eq!(KmodIndex::read(&bytes).unwrap(), index);
        for at in 0..bytes.len() {
            let _ = KmodIndex::read(&bytes[..at]);
            for value in [0, 1, 0x7f, 0xff, bytes[at] ^ 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                if let Some(read) = KmodIndex::read(&damaged) {
                    let _ = read.write();
                }
            }
        }
    }
}
