//! Lists of subkeys: `li`, `lf`, `lh`, and `ri`, a list of those (Suhanov's specification, "Index leaf" to "Index root").
//!
//! Entries are sorted by name without case, over all leaves of an `ri`. Windows writes `lh` from version 1.5 on and `lf`
//! before; it cuts a leaf in two when it is full. A list keeps its form when it grows.

use std::cmp::Ordering;

use super::cells::{Cells, NIL, corrupt};
use super::names::Name;
use crate::{Error, ErrorKind, Result};

/// Bytes before the entries: magic and number.
const HEADER: usize = 4;
/// Of an `ri`.
const ROOT_MAGIC: [u8; 2] = *b"ri";
/// Bytes of an entry of an `ri`.
const ROOT_ENTRY: usize = 4;
/// Most entries that one more may be added to. Windows XP cuts `lf` and `lh` at 511, others at 1012, a page of 4-byte entries.
const MAX_FAST: u32 = 511;
const MAX_LEAF: u32 = 1012;
/// First version with `lh`.
const HASH_MINOR: u32 = 5;
/// Most spare entries of a list that had to move.
const MAX_SPARE: usize = 64;

/// What an entry has beside the key's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `li`: nothing.
    Plain,
    /// `lf`: the first letters.
    Hint,
    /// `lh`: a hash.
    Hash,
}

impl Form {
    fn of(magic: [u8; 2]) -> Option<Self> {
        match &magic {
            b"li" => Some(Self::Plain),
            b"lf" => Some(Self::Hint),
            b"lh" => Some(Self::Hash),
            _ => None,
        }
    }

    fn magic(self) -> [u8; 2] {
        match self {
            Self::Plain => *b"li",
            Self::Hint => *b"lf",
            Self::Hash => *b"lh",
        }
    }

    fn entry_len(self) -> usize {
        match self {
            Self::Plain => 4,
            Self::Hint | Self::Hash => 8,
        }
    }

    fn max(self) -> u32 {
        match self {
            Self::Hint => MAX_FAST,
            Self::Plain | Self::Hash => MAX_LEAF,
        }
    }

    /// The entry of a key.
    fn entry(self, key: u32, name: Name<'_>) -> Vec<u8> {
        let mut entry = key.to_le_bytes().to_vec();
        match self {
            Self::Plain => {}
            Self::Hint => entry.extend(name.hint()),
            Self::Hash => entry.extend(name.hash().to_le_bytes()),
        }
        entry
    }
}

/// A leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) cell: u32,
    pub(super) form: Form,
    pub(super) count: u32,
}

/// A list as a whole.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// The `ri`.
    pub(super) root: Option<u32>,
    pub(super) leaves: Vec<Leaf>,
}

/// Where a name is in a list or would be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    leaf: usize,
    at: u32,
    /// Its key.
    pub(super) key: Option<u32>,
}

fn header(cells: &Cells, cell: u32) -> Result<([u8; 2], u32)> {
    let data = cells.data(cell)?;
    let Some([m0, m1, low, high]) = data.first_chunk::<HEADER>().copied() else {
        return Err(corrupt(cell, "expected a list of keys"));
    };
    Ok(([m0, m1], u16::from_le_bytes([low, high]).into()))
}

fn leaf(cells: &Cells, cell: u32) -> Result<Leaf> {
    let (magic, count) = header(cells, cell)?;
    let form = Form::of(magic).ok_or_else(|| {
        let found = magic.escape_ascii();
        corrupt(cell, format!("expected a list of keys, found {found}"))
    })?;
    let len = HEADER + count as usize * form.entry_len();
    if cells.data(cell)?.len() < len {
        return Err(corrupt(
            cell,
            format!("a list of {count} keys does not fit its cell"),
        ));
    }
    Ok(Leaf { cell, form, count })
}

impl Leaf {
    /// Cells of the keys, and their hints or hashes.
    pub(super) fn entries(
        self,
        cells: &Cells,
    ) -> Result<impl Iterator<Item = (u32, [u8; 4])> + '_> {
        let data = cells.data(self.cell)?.get(HEADER..).unwrap_or_default();
        let entries = data.chunks_exact(self.form.entry_len());
        Ok(entries.take(self.count as usize).map(|entry| {
            let key = entry.first_chunk().copied().unwrap_or([0xff; 4]);
            let beside = entry.last_chunk().copied().unwrap_or_default();
            (u32::from_le_bytes(key), beside)
        }))
    }

    /// Cell of one key.
    fn key(self, cells: &Cells, at: u32) -> Result<u32> {
        let start = HEADER + at as usize * self.form.entry_len();
        let key = cells.data(self.cell)?.get(start..);
        key.and_then(<[u8]>::first_chunk)
            .map(|key| u32::from_le_bytes(*key))
            .ok_or_else(|| corrupt(self.cell, format!("a list without entry {at}")))
    }

    /// How a key's name compares.
    fn order(self, cells: &Cells, at: u32, name: Name<'_>) -> Result<Ordering> {
        Ok(cells.key(self.key(cells, at)?)?.1.order(name))
    }

    /// By bisection: the entry, or where it would be.
    fn search(self, cells: &Cells, name: Name<'_>) -> Result<(u32, Option<u32>)> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            match self.order(cells, middle, name)? {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok((middle, Some(self.key(cells, middle)?))),
            }
        }
        Ok((low, None))
    }
}

impl Index {
    pub(super) fn read(cells: &Cells, list: u32) -> Result<Self> {
        let (magic, count) = header(cells, list)?;
        if magic != ROOT_MAGIC {
            let leaves = vec![leaf(cells, list)?];
            return Ok(Self { root: None, leaves });
        }
        let data = cells.data(list)?.get(HEADER..).unwrap_or_default();
        let (entries, _) = data.as_chunks::<ROOT_ENTRY>();
        let entries = entries.get(..count as usize).ok_or_else(|| {
            corrupt(
                list,
                format!("a list of {count} lists does not fit its cell"),
            )
        })?;
        let leaves = entries
            .iter()
            .map(|cell| leaf(cells, u32::from_le_bytes(*cell)));
        Ok(Self {
            root: Some(list),
            leaves: leaves.collect::<Result<_>>()?,
        })
    }

    /// Keys in all leaves.
    pub(super) fn count(&self) -> u64 {
        self.leaves.iter().map(|leaf| u64::from(leaf.count)).sum()
    }

    /// Finds a name.
    pub(super) fn search(&self, cells: &Cells, name: Name<'_>) -> Result<Spot> {
        let mut spot = Spot {
            leaf: 0,
            at: 0,
            key: None,
        };
        for (number, leaf) in self.leaves.iter().enumerate() {
            let Some(last) = leaf.count.checked_sub(1) else {
                continue;
            };
            (spot.leaf, spot.at) = (number, leaf.count);
            if leaf.order(cells, last, name)? != Ordering::Less {
                (spot.at, spot.key) = leaf.search(cells, name)?;
                break;
            }
        }
        if spot.key.is_some() {
            return Ok(spot);
        }
        self.scan(cells, name)
    }

    /// Looks at every entry: names with letters of a doubtful upper case may be anywhere. Where the name is not there,
    /// the spot is before the first greater one that only greater ones or such names follow.
    fn scan(&self, cells: &Cells, name: Name<'_>) -> Result<Spot> {
        let mut before = None;
        let mut end = Spot {
            leaf: 0,
            at: 0,
            key: None,
        };
        for (leaf, list) in self.leaves.iter().enumerate() {
            for (at, (key, _)) in (0..).zip(list.entries(cells)?) {
                let here = Spot {
                    leaf,
                    at,
                    key: None,
                };
                let (_, other) = cells.key(key)?;
                match other.order(name) {
                    Ordering::Equal => {
                        let key = Some(key);
                        return Ok(Spot { key, ..here });
                    }
                    Ordering::Greater => before = before.or(Some(here)),
                    Ordering::Less if other.is_plain() => before = None,
                    Ordering::Less => {}
                }
                end = Spot { at: at + 1, ..here };
            }
        }
        Ok(before.unwrap_or(end))
    }

    /// The spot's leaf.
    fn leaf(&self, spot: Spot) -> Result<Leaf> {
        let leaf = self.leaves.get(spot.leaf).copied();
        leaf.ok_or_else(|| corrupt(self.root.unwrap_or(NIL), "a list of no lists"))
    }
}

/// Writes an entry into a list, which moves when it is full; its cell.
fn insert_entry(cells: &mut Cells, cell: u32, at: u32, entry: &[u8]) -> Result<u32> {
    let (_, count) = header(cells, cell)?;
    let number = u16::try_from(count + 1)
        .map_err(|_| Error::new(ErrorKind::Limit, "a list of keys is full"))?;
    let end = HEADER + count as usize * entry.len();
    let cell = if cells.data(cell)?.len() >= end + entry.len() {
        cell
    } else {
        let spare = (count as usize / 8).clamp(1, MAX_SPARE) * entry.len();
        let old = cells.data(cell)?.get(..end).unwrap_or_default().to_vec();
        let moved = cells.allocate(end + entry.len() + spare)?;
        write(cells, moved, 0, &old)?;
        cells.release(cell)?;
        moved
    };
    let start = HEADER + at as usize * entry.len();
    let data = cells.data_mut(cell)?;
    if start > end || data.len() < end + entry.len() {
        return Err(corrupt(cell, "a list without such an entry"));
    }
    data.copy_within(start..end, start + entry.len());
    write(cells, cell, start, entry)?;
    write(cells, cell, 2, &number.to_le_bytes())?;
    Ok(cell)
}

/// Takes an entry out of a list; how many are left.
fn remove_entry(cells: &mut Cells, cell: u32, at: u32, entry_len: usize) -> Result<u32> {
    let (_, count) = header(cells, cell)?;
    let end = HEADER + count as usize * entry_len;
    let start = HEADER + at as usize * entry_len;
    let data = cells.data_mut(cell)?;
    if at >= count || data.len() < end {
        return Err(corrupt(cell, "a list without such an entry"));
    }
    data.copy_within(start + entry_len..end, start);
    write(cells, cell, end - entry_len, &vec![0; entry_len])?;
    let number = u16::try_from(count - 1).unwrap_or_default();
    write(cells, cell, 2, &number.to_le_bytes())?;
    Ok(count - 1)
}

/// Writes into a cell.
pub(super) fn write(cells: &mut Cells, cell: u32, at: usize, bytes: &[u8]) -> Result<()> {
    let place = cells.data_mut(cell)?.get_mut(at..at + bytes.len());
    let place = place.ok_or_else(|| corrupt(cell, "a cell is too short"))?;
    place.copy_from_slice(bytes);
    Ok(())
}

/// A list with these entries.
pub(super) fn make(
    cells: &mut Cells,
    magic: [u8; 2],
    entries: &[u8],
    entry_len: usize,
) -> Result<u32> {
    let count = u16::try_from(entries.len() / entry_len)
        .map_err(|_| Error::new(ErrorKind::Limit, "a list of keys is full"))?;
    let cell = cells.allocate(HEADER + entries.len())?;
    write(cells, cell, 0, &magic)?;
    write(cells, cell, 2, &count.to_le_bytes())?;
    write(cells, cell, HEADER, entries)?;
    Ok(cell)
}

/// Enters a key into its parent's list, and counts it there.
pub(super) fn insert(cells: &mut Cells, minor: u32, parent: u32, child: u32) -> Result<()> {
    let (node, _) = cells.key(parent)?;
    let (count, list) = (node.subkeys.get(), node.subkey_list.get());
    let list = if count == 0 {
        let form = if minor < HASH_MINOR {
            Form::Hint
        } else {
            Form::Hash
        };
        let entry = form.entry(child, cells.key(child)?.1);
        make(cells, form.magic(), &entry, form.entry_len())?
    } else {
        insert_into(cells, list, child)?
    };
    let node = cells.key_mut(parent)?;
    node.subkeys.set(count.saturating_add(1));
    node.subkey_list.set(list);
    Ok(())
}

/// Enters a key into a list; the list's cell.
fn insert_into(cells: &mut Cells, list: u32, child: u32) -> Result<u32> {
    let mut list = list;
    let mut index = Index::read(cells, list)?;
    let name = cells.key(child)?.1;
    let mut spot = index.search(cells, name)?;
    if index.leaf(spot)?.count >= index.leaf(spot)?.form.max() {
        list = split(cells, list, &index, spot)?;
        index = Index::read(cells, list)?;
        spot = index.search(cells, cells.key(child)?.1)?;
    }
    let leaf = index.leaf(spot)?;
    let entry = leaf.form.entry(child, cells.key(child)?.1);
    let moved = insert_entry(cells, leaf.cell, spot.at, &entry)?;
    match index.root {
        None => Ok(moved),
        Some(root) => {
            let at = HEADER + spot.leaf * ROOT_ENTRY;
            write(cells, root, at, &moved.to_le_bytes())?;
            Ok(root)
        }
    }
}

/// Cuts the spot's leaf in two, under an `ri`; the `ri`'s cell.
fn split(cells: &mut Cells, list: u32, index: &Index, spot: Spot) -> Result<u32> {
    let leaf = index.leaf(spot)?;
    let left = leaf.count / 2;
    let start = HEADER + left as usize * leaf.form.entry_len();
    let end = HEADER + leaf.count as usize * leaf.form.entry_len();
    let upper = cells.data(leaf.cell)?.get(start..end).unwrap_or_default();
    let upper = upper.to_vec();
    let right = make(cells, leaf.form.magic(), &upper, leaf.form.entry_len())?;
    let root = match index.root {
        Some(_) => list,
        None => make(cells, ROOT_MAGIC, &leaf.cell.to_le_bytes(), ROOT_ENTRY)?,
    };
    let at = u32::try_from(spot.leaf).unwrap_or_default() + 1;
    let root = insert_entry(cells, root, at, &right.to_le_bytes())?;
    let number = u16::try_from(left).unwrap_or_default();
    write(cells, leaf.cell, 2, &number.to_le_bytes())?;
    Ok(root)
}

/// Takes a key out of its parent's list, and of its count.
pub(super) fn remove(cells: &mut Cells, parent: u32, child: u32) -> Result<()> {
    let (node, _) = cells.key(parent)?;
    let (count, list) = (node.subkeys.get(), node.subkey_list.get());
    let index = Index::read(cells, list)?;
    let spot = index.search(cells, cells.key(child)?.1)?;
    if spot.key != Some(child) {
        return Err(corrupt(
            child,
            "a key that is not where its name is looked for",
        ));
    }
    let leaf = index.leaf(spot)?;
    let mut list = list;
    if remove_entry(cells, leaf.cell, spot.at, leaf.form.entry_len())? == 0 {
        cells.release(leaf.cell)?;
        let at = u32::try_from(spot.leaf).unwrap_or_default();
        match index.root {
            Some(root) if remove_entry(cells, root, at, ROOT_ENTRY)? > 0 => {}
            Some(root) => {
                cells.release(root)?;
                list = NIL;
            }
            None => list = NIL,
        }
    }
    let node = cells.key_mut(parent)?;
    node.subkeys.set(count.saturating_sub(1));
    node.subkey_list.set(list);
    if node.subkeys.get() == 0 {
        node.max_name.set(0);
        node.max_class.set(0);
    }
    Ok(())
}
