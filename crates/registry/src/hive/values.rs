//! Values of a key: their list, records and data, in the record, in one cell or in pieces.

use super::cells::{Cells, NIL, corrupt};
use super::lists::write;
use super::names::{Name, OwnName};
use super::records::{BigData, INLINE, INLINE_BIT, KeyValue, Record, SEGMENT, VALUE_COMP_NAME};
use crate::{Error, ErrorKind, Kind, Result, Value};

/// First version with big data.
const BIG_MINOR: u32 = 4;
/// Longest data before that version (Microsoft, "Registry element size limits": 1 MB).
const MAX_PLAIN: usize = 1 << 20;
/// Longest data that this program writes.
const MAX_DATA: usize = 64 << 20;
/// Most spare entries of a list that had to move.
const MAX_SPARE: u32 = 16;

/// Cells of a key's values.
pub(super) fn cells_of(cells: &Cells, key: u32) -> Result<impl Iterator<Item = u32> + '_> {
    let (node, _) = cells.key(key)?;
    let count = node.value_count();
    let list = (count > 0).then(|| cells.list(node.value_list.get(), count));
    Ok(list.transpose()?.into_iter().flatten())
}

/// A value by its name: its number in the list and its cell.
pub(super) fn find(cells: &Cells, key: u32, name: Name<'_>) -> Result<Option<(u32, u32)>> {
    for (number, cell) in (0..).zip(cells_of(cells, key)?) {
        let (_, found) = cells.key_value(cell)?;
        if found.len() == name.len() && found.order(name).is_eq() {
            return Ok(Some((number, cell)));
        }
    }
    Ok(None)
}

/// Type and data.
pub(super) fn read(cells: &Cells, cell: u32) -> Result<Value> {
    let (value, _) = cells.key_value(cell)?;
    let kind = Kind(value.kind.get());
    let data = data(cells, cell, value)?;
    Ok(Value { kind, data })
}

fn data(cells: &Cells, cell: u32, value: &KeyValue) -> Result<Vec<u8>> {
    let (size, inline) = value.size();
    if inline {
        let data = value.data.get(..size);
        let data = data.ok_or_else(|| corrupt(cell, format!("{size} bytes in four")))?;
        return Ok(data.to_vec());
    }
    if size == 0 {
        return Ok(Vec::new());
    }
    let plain = cells.data(value.data_cell())?;
    if let Some(data) = plain.get(..size) {
        return Ok(data.to_vec());
    }
    let segments = Segments::read(cells, value.data_cell(), size)?;
    let mut data = Vec::with_capacity(size.min(cells.bytes().len()));
    for segment in segments.cells(cells)? {
        let piece = cells.data(segment)?;
        let len = SEGMENT.min(size - data.len());
        let piece = piece.get(..len);
        data.extend_from_slice(piece.ok_or_else(|| corrupt(segment, "a short piece of data"))?);
    }
    Ok(data)
}

/// The list of a value in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments {
    pub(super) list: u32,
    count: u32,
}

impl Segments {
    /// The pieces of a value of this size.
    pub(super) fn read(cells: &Cells, cell: u32, size: usize) -> Result<Self> {
        // Hostile pieces may be one and the same.
        if size <= SEGMENT || size > cells.bytes().len() {
            return Err(corrupt(
                cell,
                format!("a value of {size} bytes does not fit its cell"),
            ));
        }
        let (big, _) = cells.record::<BigData>(cell)?;
        let count = big.segments.get();
        if size.div_ceil(SEGMENT) != usize::from(count) {
            return Err(corrupt(
                cell,
                format!("{size} bytes are not in {count} pieces"),
            ));
        }
        Ok(Self {
            list: big.list.get(),
            count: count.into(),
        })
    }

    pub(super) fn cells(self, cells: &Cells) -> Result<impl Iterator<Item = u32> + '_> {
        cells.list(self.list, self.count)
    }
}

/// True when a value's data is in pieces: it is longer than one may be, and than its cell.
pub(super) fn is_big(cells: &Cells, value: &KeyValue) -> Result<bool> {
    let (size, inline) = value.size();
    Ok(!inline && size > SEGMENT && cells.data(value.data_cell())?.len() < size)
}

/// Cells that a value has beside its record.
pub(super) fn data_cells(cells: &Cells, cell: u32) -> Result<Vec<u32>> {
    let (value, _) = cells.key_value(cell)?;
    let (size, inline) = value.size();
    if inline || size == 0 {
        return Ok(Vec::new());
    }
    let mut all = vec![value.data_cell()];
    if is_big(cells, value)? {
        let segments = Segments::read(cells, value.data_cell(), size)?;
        all.push(segments.list);
        all.extend(segments.cells(cells)?);
    }
    Ok(all)
}

/// `Limit` where the version does not allow this much.
pub(super) fn check_len(minor: u32, len: usize) -> Result<()> {
    let max = if minor < BIG_MINOR {
        MAX_PLAIN
    } else {
        MAX_DATA
    };
    if len > max {
        let message = format!("a value of {len} bytes, the most is {max}");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(())
}

/// Writes data: the size and the four bytes of the record.
fn store(cells: &mut Cells, minor: u32, data: &[u8]) -> Result<(u32, [u8; 4])> {
    let size = u32::try_from(data.len()).unwrap_or(NIL);
    if data.len() <= INLINE {
        let mut inline = [0; 4];
        for (place, byte) in inline.iter_mut().zip(data) {
            *place = *byte;
        }
        return Ok((size | INLINE_BIT, inline));
    }
    let cell = if data.len() > SEGMENT && minor >= BIG_MINOR {
        store_big(cells, data)?
    } else {
        store_plain(cells, data)?
    };
    Ok((size, cell.to_le_bytes()))
}

fn store_plain(cells: &mut Cells, data: &[u8]) -> Result<u32> {
    let cell = cells.allocate(data.len())?;
    write(cells, cell, 0, data)?;
    Ok(cell)
}

fn store_big(cells: &mut Cells, data: &[u8]) -> Result<u32> {
    let count = data.len().div_ceil(SEGMENT);
    let segments = u16::try_from(count);
    let segments = segments.map_err(|_| Error::new(ErrorKind::Limit, "a value too long"))?;
    let list = cells.allocate(count * 4)?;
    for (number, piece) in data.chunks(SEGMENT).enumerate() {
        // Every piece has a full cell, as Windows writes them.
        let cell = cells.allocate(SEGMENT)?;
        write(cells, cell, 0, piece)?;
        write(cells, list, number * 4, &cell.to_le_bytes())?;
    }
    let cell = cells.allocate(size_of::<BigData>())?;
    write(cells, cell, 0, &BigData::MAGIC)?;
    let (big, _) = cells.record_mut::<BigData>(cell)?;
    big.segments.set(segments);
    big.list.set(list);
    Ok(cell)
}

/// Gives a value other data.
pub(super) fn replace(cells: &mut Cells, minor: u32, cell: u32, value: &Value) -> Result<()> {
    for old in data_cells(cells, cell)? {
        cells.release(old)?;
    }
    let (size, data) = store(cells, minor, &value.data)?;
    let (record, _) = cells.record_mut::<KeyValue>(cell)?;
    record.size.set(size);
    record.data = data;
    record.kind.set(value.kind.0);
    Ok(())
}

/// Adds a value to a key that has none of its name.
pub(super) fn add(
    cells: &mut Cells,
    minor: u32,
    key: u32,
    name: &OwnName,
    value: &Value,
) -> Result<()> {
    let (size, data) = store(cells, minor, &value.data)?;
    let name = name.name();
    let cell = cells.allocate(size_of::<KeyValue>() + name.raw.len())?;
    write(cells, cell, 0, &KeyValue::MAGIC)?;
    write(cells, cell, size_of::<KeyValue>(), name.raw)?;
    let (record, _) = cells.record_mut::<KeyValue>(cell)?;
    record
        .name_len
        .set(u16::try_from(name.raw.len()).unwrap_or_default());
    record.size.set(size);
    record.data = data;
    record.kind.set(value.kind.0);
    // The default value, which has no name, is without the flag in Windows' own hives.
    if !name.wide && !name.raw.is_empty() {
        record.flags.set(VALUE_COMP_NAME);
    }
    append(cells, key, cell)
}

/// Puts a value's cell at the end of its key's list.
fn append(cells: &mut Cells, key: u32, value: u32) -> Result<()> {
    let (node, _) = cells.key(key)?;
    let (count, list) = (node.values.get(), node.value_list.get());
    let used = count as usize * 4;
    let list = if count == 0 {
        cells.allocate(4)?
    } else if cells.data(list)?.len() >= used + 4 {
        list
    } else {
        let old = cells.data(list)?.get(..used).unwrap_or_default().to_vec();
        let moved = cells.allocate(used + 4 + (count / 4).min(MAX_SPARE) as usize * 4)?;
        write(cells, moved, 0, &old)?;
        cells.release(list)?;
        moved
    };
    write(cells, list, used, &value.to_le_bytes())?;
    let node = cells.key_mut(key)?;
    node.values.set(count.saturating_add(1));
    node.value_list.set(list);
    Ok(())
}

/// Deletes the value of this number and cell.
pub(super) fn delete(cells: &mut Cells, key: u32, number: u32, value: u32) -> Result<()> {
    for cell in data_cells(cells, value)? {
        cells.release(cell)?;
    }
    cells.release(value)?;
    let (node, _) = cells.key(key)?;
    let (count, list) = (node.values.get(), node.value_list.get());
    let left = count.saturating_sub(1);
    let end = count as usize * 4;
    let start = number as usize * 4;
    let data = cells.data_mut(list)?;
    if start + 4 > end || data.len() < end {
        return Err(corrupt(list, "a list without such a value"));
    }
    data.copy_within(start + 4..end, start);
    write(cells, list, end - 4, &[0; 4])?;
    if left == 0 {
        cells.release(list)?;
    }
    let node = cells.key_mut(key)?;
    node.values.set(left);
    if left == 0 {
        node.value_list.set(NIL);
        node.max_value_name.set(0);
        node.max_value_data.set(0);
    }
    Ok(())
}
