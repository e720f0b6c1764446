//! The hive: its keys and values by path.
//!
//! ```text
//! base     the base block           lists    of subkeys
//! cells    bins, cells              values   list, record, data
//! free     what is free             security descriptors
//! records  nk, vk, sk, db           edit     creates and deletes
//! names    case, order, hash        verify   the walk over everything
//! ```
//!
//! Reading needs no more than that what is read makes sense. The first change verifies the whole hive, so that a
//! corrupt one is refused while it is untouched; from then on every change leaves it as sound as it was.

pub(crate) mod base;
mod cells;
mod edit;
mod free;
mod lists;
mod names;
mod records;
mod security;
#[cfg(test)]
mod tests;
mod values;
mod verify;

use std::collections::BTreeSet;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use self::base::{BASE_LEN, BaseBlock};
use self::cells::{BIN_HEADER, Cells, corrupt};
use self::lists::Index;
use self::names::{Name, OwnName};
use self::records::KeyNode;
use crate::{Result, Value};

/// A hive in memory.
#[derive(Clone, Debug)]
pub struct Hive {
    cells: Cells,
    /// Cell of the root key.
    root: u32,
    /// Minor version of the format.
    minor: u32,
    /// Verified before the first change.
    sound: bool,
    changed: bool,
    /// Keys that were changed: they get their time of writing with the file.
    touched: BTreeSet<u32>,
}

/// What a full walk has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys.
    pub keys: u64,
    /// Values.
    pub values: u64,
    /// Distinct security descriptors.
    pub descriptors: u64,
    /// Bytes of cells in use.
    pub used_bytes: u64,
    /// Bytes of free cells.
    pub free_bytes: u64,
    /// Bytes of cells in use that nothing refers to; Windows leaves some behind, and they stay.
    pub lost_bytes: u64,
}

impl Hive {
    /// Takes a hive that was closed cleanly; `Dirty` for another ([`recover`](Self::recover) is for those).
    ///
    /// What the file has behind the bins is cut off: Windows grows files by 256 KiB and does not mind its end.
    pub fn open(mut primary: Vec<u8>) -> Result<Self> {
        let base = BaseBlock::of(&primary)?;
        base.check(primary.len())?;
        let (root, minor) = (base.root.get(), base.minor.get());
        let len = BASE_LEN + base.bins_len.get() as usize;
        primary.truncate(len);
        let hive = Self {
            cells: Cells::new(primary),
            root,
            minor,
            sound: false,
            changed: false,
            touched: BTreeSet::new(),
        };
        hive.cells.key(root)?;
        Ok(hive)
    }

    /// An empty hive (version 1.5) with a root key of this name, cut to 255 UTF-16 units, and a plain security
    /// descriptor: SYSTEM and Administrators may do everything, Users read.
    pub fn create(root_name: &str) -> Self {
        edit::create(root_name).expect("a root key and its descriptor fit into an empty bin")
    }

    /// True when there is a key of this path.
    pub fn has(&self, path: &str) -> Result<bool> {
        Ok(self.find(path)?.is_some())
    }

    /// Names of the keys below, in the order of the hive (sorted without case); none where the key is not there.
    pub fn keys(&self, path: &str) -> Result<Vec<String>> {
        let Some(key) = self.find(path)? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        let mut room = self.cells.bytes().len();
        for child in self.subkeys(key)? {
            let (_, name) = self.cells.key(child)?;
            // A hostile list may have a key many times.
            room = room
                .checked_sub(name.raw.len().max(1))
                .ok_or_else(|| corrupt(key, "a list of more keys than there are"))?;
            names.push(name.text());
        }
        Ok(names)
    }

    /// Names and values in the order of the hive; the default value has an empty name. None where the key is not there.
    pub fn values(&self, path: &str) -> Result<Vec<(String, Value)>> {
        let Some(key) = self.find(path)? else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        let mut room = self.cells.bytes().len();
        for cell in values::cells_of(&self.cells, key)? {
            let (_, name) = self.cells.key_value(cell)?;
            let value = values::read(&self.cells, cell)?;
            room = room
                .checked_sub(value.data.len() + name.raw.len())
                .ok_or_else(|| corrupt(key, "a list of more values than there are"))?;
            all.push((name.text(), value));
        }
        Ok(all)
    }

    /// One value; `None` where it or its key is not there.
    pub fn value(&self, path: &str, name: &str) -> Result<Option<Value>> {
        let Some(key) = self.find(path)? else {
            return Ok(None);
        };
        let name = OwnName::new(name);
        match values::find(&self.cells, key, name.name())? {
            Some((_, cell)) => values::read(&self.cells, cell).map(Some),
            None => Ok(None),
        }
    }

    /// The key's class name.
    pub fn class(&self, path: &str) -> Result<Option<String>> {
        let Some(key) = self.find(path)? else {
            return Ok(None);
        };
        let (node, _) = self.cells.key(key)?;
        let Some(class) = node.class_cell() else {
            return Ok(None);
        };
        let raw = self.cells.data(class)?.get(..node.class_len.get().into());
        let raw = raw.ok_or_else(|| corrupt(class, "a class name is longer than its cell"))?;
        Ok(Some(Name { raw, wide: true }.text()))
    }

    /// When the key was last written, as a FILETIME (100 ns since 1601). Keys that were changed since the hive was
    /// opened get theirs in [`to_bytes`](Self::to_bytes).
    pub fn written(&self, path: &str) -> Result<Option<u64>> {
        let Some(key) = self.find(path)? else {
            return Ok(None);
        };
        Ok(Some(self.cells.key(key)?.0.written.get()))
    }

    /// True when something was changed since it was opened; a created hive is.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Walks the whole hive: every cell, list, key, value and descriptor, each reached once.
    ///
    /// Tolerated, because Windows leaves or ignores it: cells in use that nothing refers to; free cells side by side;
    /// spare room in any cell; counts of volatile subkeys and the place of their list; the parent of the root key;
    /// largest lengths of names and data, whatever they say; descriptors with more references than keys, or none; keys
    /// without a descriptor; order and hash of names with letters whose upper case is doubtful (see `names`); `lf`
    /// hints left empty; leaves without entries under an `ri`; long data in one cell although the version has big data;
    /// two values of one name; anything behind the bins.
    pub fn verify(&self) -> Result<Summary> {
        verify::verify(&self.cells, self.root)
    }

    /// The file: sequence numbers equal, `now` (FILETIME) as its time of writing and that of the changed keys, the
    /// checksum right.
    pub fn to_bytes(&self, now: u64) -> Vec<u8> {
        let mut bytes = self.cells.bytes().to_vec();
        for &key in &self.touched {
            let node = bytes.get_mut(BASE_LEN + key as usize + 4..);
            if let Some(Ok((node, _))) = node.map(KeyNode::mut_from_prefix) {
                node.written.set(now);
            }
        }
        // The first bin keeps a copy of the time, which recovery uses when the base block is damaged.
        let header = bytes.get_mut(BASE_LEN..BASE_LEN + BIN_HEADER as usize);
        if let Some(time) = header.and_then(|header| header.get_mut(20..28)) {
            time.copy_from_slice(U64::new(now).as_bytes());
        }
        if let Ok((base, _)) = BaseBlock::mut_from_prefix(&mut bytes) {
            let sequence = base.primary_sequence.get().wrapping_add(1);
            base.primary_sequence = U32::new(sequence);
            base.secondary_sequence = U32::new(sequence);
            base.written.set(now);
            base.bins_len.set(self.cells.bins_len());
            base.checksum.set(base.sum());
        }
        bytes
    }

    /// Cell of the key of this path.
    fn find(&self, path: &str) -> Result<Option<u32>> {
        let mut key = self.root;
        for part in parts(path) {
            match self.child(key, &OwnName::new(part))? {
                Some(child) => key = child,
                None => return Ok(None),
            }
        }
        Ok(Some(key))
    }

    /// Cell of a subkey.
    fn child(&self, key: u32, name: &OwnName) -> Result<Option<u32>> {
        let (node, _) = self.cells.key(key)?;
        if node.subkeys.get() == 0 {
            return Ok(None);
        }
        let index = Index::read(&self.cells, node.subkey_list.get())?;
        Ok(index.search(&self.cells, name.name())?.key)
    }

    /// Cells of all subkeys.
    fn subkeys(&self, key: u32) -> Result<Vec<u32>> {
        subkeys(&self.cells, key)
    }
}

/// Cells of all subkeys, in order.
fn subkeys(cells: &Cells, key: u32) -> Result<Vec<u32>> {
    let (node, _) = cells.key(key)?;
    let count = node.subkeys.get();
    if count == 0 {
        return Ok(Vec::new());
    }
    let index = Index::read(cells, node.subkey_list.get())?;
    if index.count() != u64::from(count) || count > cells.bins_len() / 8 {
        let found = index.count();
        return Err(corrupt(
            key,
            format!("expected {count} subkeys, the list has {found}"),
        ));
    }
    let mut all = Vec::with_capacity(count as usize);
    for leaf in index.leaves {
        all.extend(leaf.entries(cells)?.map(|(child, _)| child));
    }
    Ok(all)
}

/// Names in a path; empty ones do not count.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('\\').filter(|part| !part.is_empty())
}
