//! The walk over everything. Linear in the size of the hive: cells are marked in a bitmap.

use std::collections::HashMap;

use super::cells::{ALIGN, Cells, NIL, corrupt};
use super::lists::{Form, Index, Leaf};
use super::names::Name;
use super::records::{BigData, KeySecurity};
use super::{Summary, values};
use crate::Result;

/// Longest name of a key in bytes: 256 UTF-16 units, one more than may be created.
const MAX_NAME_BYTES: usize = 512;

/// Walks the hive whose root key is `root`.
pub(super) fn verify(cells: &Cells, root: u32) -> Result<Summary> {
    let mut walk = Walk::begin(cells)?;
    let mut left = vec![(root, None)];
    while let Some((key, parent)) = left.pop() {
        walk.key(key, parent)?;
        walk.subkeys(key, &mut left)?;
        walk.values(key)?;
    }
    walk.descriptors(cells.key(root)?.0.security.get())?;
    walk.summary.lost_bytes = walk.summary.used_bytes - walk.reached_bytes;
    Ok(walk.summary)
}

/// One bit a place where a cell may begin.
#[derive(Debug)]
struct Bitmap(Vec<u64>);

impl Bitmap {
    fn new(bins_len: u32) -> Self {
        Self(vec![0; (bins_len / ALIGN / 64) as usize + 1])
    }

    fn place(&mut self, cell: u32) -> Option<(&mut u64, u64)> {
        let bit = cell / ALIGN;
        let word = self.0.get_mut((bit / 64) as usize)?;
        Some((word, 1 << (bit % 64)))
    }

    fn set(&mut self, cell: u32) {
        if let Some((word, bit)) = self.place(cell) {
            *word |= bit;
        }
    }

    /// Clears it; whether it was set.
    fn take(&mut self, cell: u32) -> bool {
        match self.place(cell) {
            Some((word, bit)) if *word & bit != 0 => {
                *word &= !bit;
                true
            }
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Walk<'a> {
    cells: &'a Cells,
    /// Cells in use that nothing has referred to yet.
    unreached: Bitmap,
    reached_bytes: u64,
    /// Descriptors, and keys that have them.
    references: HashMap<u32, u32>,
    summary: Summary,
}

impl<'a> Walk<'a> {
    /// Bins and cells tile the file.
    fn begin(cells: &'a Cells) -> Result<Self> {
        let mut unreached = Bitmap::new(cells.bins_len());
        let mut summary = Summary::default();
        cells.walk(|extent| {
            if extent.used {
                unreached.set(extent.cell);
                summary.used_bytes += u64::from(extent.size);
            } else {
                summary.free_bytes += u64::from(extent.size);
            }
        })?;
        Ok(Self {
            cells,
            unreached,
            reached_bytes: 0,
            references: HashMap::new(),
            summary,
        })
    }

    /// A cell is referred to, for the first time; its content.
    fn claim(&mut self, cell: u32) -> Result<&'a [u8]> {
        if !cell.is_multiple_of(ALIGN) || !self.unreached.take(cell) {
            let what = "a reference to what is free, no cell, or referred to already";
            return Err(corrupt(cell, what));
        }
        let data = self.cells.data(cell)?;
        self.reached_bytes += data.len() as u64 + 4;
        Ok(data)
    }

    fn key(&mut self, key: u32, parent: Option<u32>) -> Result<()> {
        self.claim(key)?;
        let (node, name) = self.cells.key(key)?;
        self.summary.keys += 1;
        if let Some(parent) = parent {
            if node.parent.get() != parent {
                let found = node.parent.get();
                let message = format!("expected the parent {parent:#x}, found {found:#x}");
                return Err(corrupt(key, message));
            }
            if name.raw.is_empty() {
                return Err(corrupt(key, "a key without a name"));
            }
        }
        if name.raw.len() > MAX_NAME_BYTES || (name.wide && name.raw.len() % 2 != 0) {
            let message = format!("a key's name cannot have {} bytes", name.raw.len());
            return Err(corrupt(key, message));
        }
        if let Some(class) = node.class_cell()
            && self.claim(class)?.len() < node.class_len.get().into()
        {
            return Err(corrupt(class, "a class name is longer than its cell"));
        }
        if node.security.get() != NIL {
            *self.references.entry(node.security.get()).or_default() += 1;
        }
        Ok(())
    }

    fn subkeys(&mut self, key: u32, left: &mut Vec<(u32, Option<u32>)>) -> Result<()> {
        let (node, _) = self.cells.key(key)?;
        let count = node.subkeys.get();
        if count == 0 {
            return Ok(());
        }
        let index = Index::read(self.cells, node.subkey_list.get())?;
        if let Some(root) = index.root {
            self.claim(root)?;
        }
        let mut last: Option<Name<'a>> = None;
        let mut found = 0;
        for leaf in &index.leaves {
            self.claim(leaf.cell)?;
            found += u64::from(leaf.count);
            self.leaf(*leaf, &mut last)?;
            let entries = leaf.entries(self.cells)?;
            left.extend(entries.map(|(child, _)| (child, Some(key))));
        }
        if found != u64::from(count) {
            let message = format!("expected {count} subkeys, the list has {found}");
            return Err(corrupt(key, message));
        }
        Ok(())
    }

    /// Order, hints and hashes; names with letters of a doubtful upper case may be anywhere.
    fn leaf(&self, leaf: Leaf, last: &mut Option<Name<'a>>) -> Result<()> {
        for (child, beside) in leaf.entries(self.cells)? {
            let (_, name) = self.cells.key(child)?;
            if !name.is_plain() {
                continue;
            }
            if last.is_some_and(|last| last.order(name).is_ge()) {
                return Err(corrupt(leaf.cell, format!("{} is not sorted", name.text())));
            }
            let right = match leaf.form {
                Form::Plain => true,
                Form::Hint => hint_fits(beside, name),
                Form::Hash => u32::from_le_bytes(beside) == name.hash(),
            };
            if !right {
                let message = format!("the hash or hint of {} is wrong", name.text());
                return Err(corrupt(leaf.cell, message));
            }
            *last = Some(name);
        }
        Ok(())
    }

    fn values(&mut self, key: u32) -> Result<()> {
        let (node, _) = self.cells.key(key)?;
        if node.value_count() == 0 {
            return Ok(());
        }
        self.claim(node.value_list.get())?;
        for value in values::cells_of(self.cells, key)? {
            self.value(value)?;
        }
        Ok(())
    }

    fn value(&mut self, cell: u32) -> Result<()> {
        self.claim(cell)?;
        self.summary.values += 1;
        let (value, name) = self.cells.key_value(cell)?;
        if name.wide && name.raw.len() % 2 != 0 {
            return Err(corrupt(cell, "half a letter in a value's name"));
        }
        let (size, inline) = value.size();
        if inline && size > 4 {
            return Err(corrupt(cell, format!("{size} bytes in four")));
        }
        if inline || size == 0 {
            return Ok(());
        }
        let data = self.claim(value.data_cell())?;
        if data.len() < size {
            self.segments(value.data_cell(), size)?;
        }
        Ok(())
    }

    /// Data in pieces; the `db` record is claimed.
    fn segments(&mut self, cell: u32, size: usize) -> Result<()> {
        let segments = values::Segments::read(self.cells, cell, size)?;
        self.cells.record::<BigData>(cell)?;
        self.claim(segments.list)?;
        let mut left = size;
        for segment in segments.cells(self.cells)? {
            let want = left.min(super::records::SEGMENT);
            if self.claim(segment)?.len() < want {
                return Err(corrupt(segment, "a short piece of data"));
            }
            left -= want;
        }
        Ok(())
    }

    /// The ring of descriptors has every one that keys have, with no fewer references.
    fn descriptors(&mut self, first: u32) -> Result<()> {
        let any = self.references.keys().next().copied();
        let Some(start) = Some(first).filter(|first| *first != NIL).or(any) else {
            return Ok(());
        };
        let mut cell = start;
        loop {
            self.claim(cell)?;
            let next = self.descriptor(cell)?;
            if next == start {
                break;
            }
            cell = next;
        }
        match self.references.keys().next() {
            Some(&lost) => Err(corrupt(lost, "a descriptor that is not in the ring of all")),
            None => Ok(()),
        }
    }

    /// One descriptor; the next.
    fn descriptor(&mut self, cell: u32) -> Result<u32> {
        let (security, rest) = self.cells.record::<KeySecurity>(cell)?;
        self.summary.descriptors += 1;
        if rest.len() < security.len.get() as usize {
            return Err(corrupt(
                cell,
                "a security descriptor is longer than its cell",
            ));
        }
        let used = self.references.remove(&cell).unwrap_or_default();
        let counted = security.references.get();
        if counted < used {
            let message = format!("a security descriptor of {used} keys counts {counted}");
            return Err(corrupt(cell, message));
        }
        let next = security.next.get();
        if self.cells.record::<KeySecurity>(next)?.0.previous.get() != cell {
            return Err(corrupt(next, "the ring of security descriptors is broken"));
        }
        Ok(next)
    }
}

/// True for an empty hint, and for one that has the first letters without case.
fn hint_fits(hint: [u8; 4], name: Name<'_>) -> bool {
    let hint = hint.map(u16::from);
    let letters = hint.iter().zip(name.units());
    hint.first() == Some(&0)
        || letters
            .into_iter()
            .all(|(hint, unit)| super::names::upcase(*hint) == super::names::upcase(unit))
}
