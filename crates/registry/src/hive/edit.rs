//! Changes: keys and values are created, set and deleted in place.
//!
//! Everything that can refuse a change is asked before its first write: names and lengths, room, and (once) whether
//! the hive is sound.

use std::collections::{BTreeMap, BTreeSet};

use super::base::{BaseBlock, PAGE};
use super::cells::{BIN_HEADER, Cells, NIL};
use super::names::{MAX_KEY_NAME, MAX_VALUE_NAME, OwnName};
use super::records::{
    KEY_COMP_NAME, KEY_HIVE_ENTRY, KEY_NO_DELETE, KEY_PREDEF_HANDLE, KeyNode, Record,
};
use super::{Hive, lists, parts, security, subkeys, values};
use crate::{Error, ErrorKind, Result, Value};

/// Most keys on a path (Microsoft, "Registry element size limits").
const MAX_DEPTH: usize = 512;
/// In the high half of `KeyNode::control`'s low byte: new subkeys get the same virtualisation flags
/// (`REG_KEY_RECURSE_FLAG`).
const RECURSE: u16 = 0x80;
/// Virtualisation flags in `KeyNode::control`.
const VIRTUALISATION: u16 = 0xf0;

/// A hive with nothing but a root key.
pub(super) fn create(root_name: &str) -> Result<Hive> {
    let mut cells = Cells::empty();
    let mut len = 0;
    let name: String = root_name
        .chars()
        .take_while(|letter| {
            len += letter.len_utf16();
            len <= MAX_KEY_NAME
        })
        .collect();
    // The first cell of the first bin is the root key, as in every hive that Windows makes.
    let root = new_key(&mut cells, NIL, &OwnName::new(&name))?;
    let security = security::create(&mut cells)?;
    let node = cells.key_mut(root)?;
    node.security.set(security);
    node.flags
        .set(node.flags.get() | KEY_HIVE_ENTRY | KEY_NO_DELETE);
    debug_assert_eq!((root, cells.bins_len()), (BIN_HEADER, PAGE));
    let base = BaseBlock::new(root, cells.bins_len());
    let minor = base.minor.get();
    cells.set_base(&base);
    Ok(Hive {
        cells,
        root,
        minor,
        sound: true,
        changed: true,
        touched: BTreeSet::from([root]),
    })
}

/// The record of a key that no list has yet.
fn new_key(cells: &mut Cells, parent: u32, name: &OwnName) -> Result<u32> {
    let name = name.name();
    let cell = cells.allocate(size_of::<KeyNode>() + name.raw.len())?;
    lists::write(cells, cell, 0, &KeyNode::MAGIC)?;
    lists::write(cells, cell, size_of::<KeyNode>(), name.raw)?;
    let node = cells.key_mut(cell)?;
    node.flags.set(if name.wide { 0 } else { KEY_COMP_NAME });
    node.parent.set(parent);
    for none in [
        &mut node.subkey_list,
        &mut node.volatile_list,
        &mut node.value_list,
        &mut node.security,
        &mut node.class,
    ] {
        none.set(NIL);
    }
    node.name_len
        .set(u16::try_from(name.raw.len()).unwrap_or_default());
    Ok(cell)
}

fn limit(message: String) -> Error {
    Error::new(ErrorKind::Limit, message)
}

impl Hive {
    /// Creates a key and the missing ones above it, with its parent's security descriptor. False when it was there.
    pub fn create_key(&mut self, path: &str) -> Result<bool> {
        if self.has(path)? {
            return Ok(false);
        }
        check_path(path)?;
        self.prepare(path.len())?;
        self.make(path)?;
        Ok(true)
    }

    /// Sets a value; its key and the missing ones above are created. False when it was so already.
    pub fn set(&mut self, path: &str, name: &str, value: &Value) -> Result<bool> {
        let name = OwnName::new(name);
        let key = self.find(path)?;
        let old = match key {
            Some(key) => values::find(&self.cells, key, name.name())?,
            None => None,
        };
        if let Some((_, cell)) = old
            && values::read(&self.cells, cell)? == *value
        {
            return Ok(false);
        }
        self.check_value(key, &name, value)?;
        if key.is_none() {
            check_path(path)?;
        }
        self.prepare(path.len() + value.data.len() + name.name().raw.len())?;
        let key = match key {
            Some(key) => key,
            None => self.make(path)?,
        };
        match old {
            Some((_, cell)) => values::replace(&mut self.cells, self.minor, cell, value)?,
            None => values::add(&mut self.cells, self.minor, key, &name, value)?,
        }
        let node = self.touch(key)?;
        let name_len = u32::try_from(name.name().len() * 2).unwrap_or_default();
        let data_len = u32::try_from(value.data.len()).unwrap_or_default();
        node.max_value_name
            .set(node.max_value_name.get().max(name_len));
        node.max_value_data
            .set(node.max_value_data.get().max(data_len));
        Ok(true)
    }

    /// Deletes a value. False when there was none.
    pub fn delete_value(&mut self, path: &str, name: &str) -> Result<bool> {
        let Some(key) = self.find(path)? else {
            return Ok(false);
        };
        let name = OwnName::new(name);
        let Some((number, cell)) = values::find(&self.cells, key, name.name())? else {
            return Ok(false);
        };
        self.prepare(0)?;
        values::delete(&mut self.cells, key, number, cell)?;
        self.touch(key)?;
        Ok(true)
    }

    /// Deletes a key and all below it. False when there was none; the root key is `Unsupported`.
    pub fn delete_key(&mut self, path: &str) -> Result<bool> {
        let Some(key) = self.find(path)? else {
            return Ok(false);
        };
        if key == self.root {
            let message = "the root key of a hive cannot be deleted";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        self.prepare(0)?;
        let doomed = Doomed::below(&self.cells, key)?;
        let parent = self.cells.key(key)?.0.parent.get();
        lists::remove(&mut self.cells, parent, key)?;
        for cell in doomed.cells {
            self.cells.release(cell)?;
        }
        for (descriptor, count) in doomed.descriptors {
            security::drop_references(&mut self.cells, descriptor, count)?;
        }
        for key in doomed.keys {
            self.touched.remove(&key);
        }
        self.touch(parent)?;
        Ok(true)
    }

    /// Before the first change: the hive is sound. Before every one: there is room.
    fn prepare(&mut self, len: usize) -> Result<()> {
        self.cells.check_room(len)?;
        if !self.sound {
            self.verify()?;
            self.sound = true;
        }
        self.cells.index_free()
    }

    fn touch(&mut self, key: u32) -> Result<&mut KeyNode> {
        self.changed = true;
        self.touched.insert(key);
        self.cells.key_mut(key)
    }

    /// The key of a path, with all that is missing.
    fn make(&mut self, path: &str) -> Result<u32> {
        let mut key = self.root;
        for part in parts(path) {
            let name = OwnName::new(part);
            key = match self.child(key, &name)? {
                Some(child) => child,
                None => self.make_child(key, &name)?,
            };
        }
        Ok(key)
    }

    fn make_child(&mut self, parent: u32, name: &OwnName) -> Result<u32> {
        let (node, _) = self.cells.key(parent)?;
        let (descriptor, control) = (node.security.get(), node.control.get());
        security::refer(&mut self.cells, descriptor)?;
        let child = new_key(&mut self.cells, parent, name)?;
        let node = self.touch(child)?;
        node.security.set(descriptor);
        if control & RECURSE != 0 {
            node.control.set(control & VIRTUALISATION);
        }
        lists::insert(&mut self.cells, self.minor, parent, child)?;
        let len = u16::try_from(name.name().len() * 2).unwrap_or_default();
        let node = self.touch(parent)?;
        node.max_name.set(node.max_name.get().max(len));
        Ok(child)
    }

    /// Refuses a value that its key or the format cannot have.
    fn check_value(&self, key: Option<u32>, name: &OwnName, value: &Value) -> Result<()> {
        let len = name.name().len();
        if len > MAX_VALUE_NAME {
            return Err(limit(format!(
                "a value's name of {len} letters, the most is {MAX_VALUE_NAME}"
            )));
        }
        values::check_len(self.minor, value.data.len())?;
        if let Some(key) = key
            && self.cells.key(key)?.0.flags.get() & KEY_PREDEF_HANDLE != 0
        {
            let message = "a predefined handle has no values";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(())
    }
}

/// Refuses a path that Windows would not let be created.
fn check_path(path: &str) -> Result<()> {
    if parts(path).count() > MAX_DEPTH {
        return Err(limit(format!("a path of more than {MAX_DEPTH} keys")));
    }
    for part in parts(path) {
        let len = part.encode_utf16().count();
        if len > MAX_KEY_NAME {
            return Err(limit(format!(
                "a key's name of {len} letters, the most is {MAX_KEY_NAME}"
            )));
        }
    }
    Ok(())
}

/// What goes with a key.
#[derive(Debug, Default)]
struct Doomed {
    cells: Vec<u32>,
    keys: Vec<u32>,
    /// Descriptors and how many of the keys have them.
    descriptors: BTreeMap<u32, u32>,
}

impl Doomed {
    /// Everything of a key and of all below.
    fn below(cells: &Cells, key: u32) -> Result<Self> {
        let mut doomed = Self::default();
        let mut left = vec![key];
        while let Some(key) = left.pop() {
            doomed.add(cells, key)?;
            left.extend(subkeys(cells, key)?);
        }
        Ok(doomed)
    }

    fn add(&mut self, cells: &Cells, key: u32) -> Result<()> {
        let (node, _) = cells.key(key)?;
        self.keys.push(key);
        self.cells.push(key);
        self.cells.extend(node.class_cell());
        if node.security.get() != NIL {
            *self.descriptors.entry(node.security.get()).or_default() += 1;
        }
        if node.subkeys.get() > 0 {
            let index = lists::Index::read(cells, node.subkey_list.get())?;
            self.cells.extend(index.root);
            self.cells.extend(index.leaves.iter().map(|leaf| leaf.cell));
        }
        if node.value_count() > 0 {
            self.cells.push(node.value_list.get());
        }
        for value in values::cells_of(cells, key)? {
            self.cells.push(value);
            self.cells.extend(values::data_cells(cells, value)?);
        }
        Ok(())
    }
}
