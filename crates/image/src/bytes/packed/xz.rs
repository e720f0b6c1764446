//! xz streams (The .xz File Format 1.2.1). The container is read here, because the blocks of the index are the restart
//! points and a block says how large its dictionary is; a block's filters, data and check are lzma-rust2's.
//!
//! ```text
//! file   = stream, padding of 4-byte zeroes, stream, …
//! stream = header 12 | block | block | … | index | footer 12        found from the footer backwards
//! ```
//!
//! lzma-rust2 reads streams from their start only. So each block is shown to it as a stream of one block: the stream's
//! own header, the block where it lies, and an index and footer made here.

use std::io::{Chain, Cursor, Read};
use std::sync::Arc;

use libdeflater::Crc;
use lzma_rust2::XzReader;

use super::input::Input;
use super::{Decode, FileRange, MAX_WINDOW, Restart};
use crate::{Error, ErrorKind, Result};

/// `FD 37 7A 58 5A 00` (2.1.1.1).
const HEADER_MAGIC: &[u8] = b"\xfd7zXZ\0";
/// `YZ` (2.1.2.4).
const FOOTER_MAGIC: &[u8] = b"YZ";
/// Stream header and footer are 12 bytes each (2.1.1, 2.1.2).
const HEADER_LEN: u64 = 12;
/// Largest index that is read: of `xz -T0`'s blocks of 24 MiB it spans 40 TiB of small blocks' worth.
const MAX_INDEX: u64 = 16 << 20;
/// Most blocks of all streams: 48 bytes of memory each.
const MAX_BLOCKS: usize = 1 << 20;
/// LZMA2's filter id (5.3.1).
const LZMA2: u64 = 0x21;

/// A block.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Offset of its header.
    start: u64,
    /// Header, data and check, without padding (4.3).
    unpadded: u64,
    /// Length of its content.
    content: u64,
    /// The two bytes of stream flags (2.1.1.2).
    flags: [u8; 2],
}

/// All blocks of a file.
#[derive(Debug)]
pub(super) struct Blocks {
    list: Vec<Block>,
    max_dictionary: u64,
}

impl Blocks {
    /// Reads the indexes of all streams and the header of each block.
    pub(super) fn read(range: &FileRange) -> Result<Self> {
        let mut list = Vec::new();
        let mut end = range.len();
        while end > 0 {
            end = skip_padding(range, end)?;
            end = read_stream(range, end, &mut list)?;
        }
        list.reverse();
        let mut max_dictionary = 0;
        for block in &list {
            let size = dictionary(range, block).map_err(|e| e.at(block.start))?;
            if size > MAX_WINDOW {
                let message = format!(
                    "expected an xz dictionary of at most {MAX_WINDOW} bytes, found {size}"
                );
                return Err(Error::new(ErrorKind::Limit, message).at(block.start));
            }
            max_dictionary = max_dictionary.max(size);
        }
        Ok(Self {
            list,
            max_dictionary,
        })
    }

    pub(super) fn max_dictionary(&self) -> u64 {
        self.max_dictionary
    }
}

/// The end of the last stream before `end` (2.2: padding is a multiple of four zero bytes).
fn skip_padding(range: &FileRange, mut end: u64) -> Result<u64> {
    let original = end;
    while end >= 4 {
        let mut word = [0; 4];
        range.read_exact_at(&mut word, end - 4)?;
        if word != [0; 4] {
            return Ok(end);
        }
        end -= 4;
    }
    Err(Error::corrupt("expected an xz stream, found only zeroes").at(original))
}

/// Reads the stream that ends at `end`, appends its blocks last first, and says where it starts.
fn read_stream(range: &FileRange, end: u64, list: &mut Vec<Block>) -> Result<u64> {
    let truncated = || {
        Error::new(
            ErrorKind::Truncated,
            "expected an xz stream, but the file ends within one",
        )
    };
    let footer_start = end
        .checked_sub(HEADER_LEN)
        .filter(|start| *start >= HEADER_LEN)
        .ok_or_else(|| truncated().at(end))?;
    let mut footer = [0; 12];
    range.read_exact_at(&mut footer, footer_start)?;
    let bad = |what: &str| Error::corrupt(format!("expected {what}")).at(footer_start);
    if !footer.ends_with(FOOTER_MAGIC) {
        return Err(bad(&format!(
            "the footer of an xz stream (YZ), found {:02x?}: the file is truncated or has other data at its end",
            &footer[10..]
        )));
    }
    let [c0, c1, c2, c3, b0, b1, b2, b3, f0, f1, ..] = footer;
    if u32::from_le_bytes([c0, c1, c2, c3]) != crc(&footer[4..10]) {
        return Err(bad("an xz footer with the right CRC-32, found a wrong one"));
    }
    let flags = [f0, f1];
    // Backward Size counts units of four bytes, less one (2.1.2.2).
    let index_len = (u64::from(u32::from_le_bytes([b0, b1, b2, b3])) + 1) * 4;
    if index_len > MAX_INDEX {
        let message =
            format!("expected an xz index of at most {MAX_INDEX} bytes, found {index_len}");
        return Err(Error::new(ErrorKind::Limit, message).at(footer_start));
    }
    let index_start = footer_start
        .checked_sub(index_len)
        .filter(|start| *start >= HEADER_LEN)
        .ok_or_else(|| truncated().at(footer_start))?;
    let len = usize::try_from(index_len).unwrap_or(usize::MAX);
    let index = range.read_vec(index_start, len)?;
    let records = read_index(&index).map_err(|e| e.at(index_start))?;
    if list.len() + records.len() > MAX_BLOCKS {
        let message = format!("expected at most {MAX_BLOCKS} xz blocks, found more");
        return Err(Error::new(ErrorKind::Limit, message).at(index_start));
    }
    let mut block_end = index_start;
    for (unpadded, content) in records.into_iter().rev() {
        let padded = unpadded.checked_next_multiple_of(4);
        let start = padded
            .and_then(|padded| block_end.checked_sub(padded))
            .filter(|start| *start >= HEADER_LEN)
            .ok_or_else(|| truncated().at(index_start))?;
        list.push(Block {
            start,
            unpadded,
            content,
            flags,
        });
        block_end = start;
    }
    let start = block_end - HEADER_LEN;
    let mut header = [0; 12];
    range.read_exact_at(&mut header, start)?;
    let expected = stream_header(flags);
    if header != expected {
        let message = format!("expected an xz stream header {expected:02x?}, found {header:02x?}");
        return Err(Error::corrupt(message).at(start));
    }
    Ok(start)
}

/// The records of an index (4): unpadded and content sizes.
fn read_index(index: &[u8]) -> Result<Vec<(u64, u64)>> {
    let bad = |what: &str| Error::corrupt(format!("expected {what} in the xz index"));
    let (body, sum) = index
        .split_last_chunk::<4>()
        .ok_or_else(|| bad("a CRC-32"))?;
    if u32::from_le_bytes(*sum) != crc(body) {
        return Err(bad("the right CRC-32"));
    }
    let mut rest = body
        .strip_prefix(&[0])
        .ok_or_else(|| bad("the index indicator 0"))?;
    let count = varint(&mut rest).ok_or_else(|| bad("a number of records"))?;
    // A record has at least two bytes.
    let most = rest.len() as u64 / 2;
    if count > most {
        return Err(bad(&format!("at most {most} records")));
    }
    let mut records = Vec::new();
    for _ in 0..count {
        let unpadded = varint(&mut rest).filter(|size| *size >= 5);
        let content = varint(&mut rest);
        records.push(unpadded.zip(content).ok_or_else(|| bad("a record"))?);
    }
    if rest.len() > 3 || rest.iter().any(|byte| *byte != 0) {
        return Err(bad("at most three zero bytes of padding"));
    }
    Ok(records)
}

/// Size of the dictionary that a block header asks for (3.1, 5.3.1). Filters that the decoder does not know are its
/// own to refuse.
fn dictionary(range: &FileRange, block: &Block) -> Result<u64> {
    let bad = |what: &str| Error::corrupt(format!("expected {what} in an xz block header"));
    let mut size = [0];
    range.read_exact_at(&mut size, block.start)?;
    let len = (usize::from(size[0]) + 1) * 4;
    if size[0] == 0 || len as u64 > block.unpadded {
        return Err(bad("a size"));
    }
    let header = range.read_vec(block.start, len)?;
    let (body, sum) = header
        .split_last_chunk::<4>()
        .ok_or_else(|| bad("a CRC-32"))?;
    if u32::from_le_bytes(*sum) != crc(body) {
        return Err(bad("the right CRC-32"));
    }
    let [_, flags, rest @ ..] = body else {
        return Err(bad("flags"));
    };
    let mut rest = rest;
    for bit in [6, 7] {
        if flags & (1 << bit) != 0 {
            varint(&mut rest).ok_or_else(|| bad("sizes"))?;
        }
    }
    let mut largest = 0;
    for _ in 0..=(flags & 3) {
        let id = varint(&mut rest).ok_or_else(|| bad("a filter"))?;
        let len = varint(&mut rest).ok_or_else(|| bad("a filter"))?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let properties = rest.get(..len).ok_or_else(|| bad("filter properties"))?;
        rest = rest.get(len..).unwrap_or_default();
        if id == LZMA2 {
            let &[bits] = properties else {
                return Err(bad("one byte of LZMA2 properties"));
            };
            largest = match bits {
                0..40 => (2 | u64::from(bits) & 1) << (bits / 2 + 11),
                40 => u64::from(u32::MAX),
                _ => return Err(bad("a dictionary size")),
            };
        }
    }
    Ok(largest)
}

/// A number in 7-bit groups, least significant first (1.2).
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..63).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn stream_header(flags: [u8; 2]) -> [u8; 12] {
    let mut header = [0; 12];
    header[..6].copy_from_slice(HEADER_MAGIC);
    header[6..8].copy_from_slice(&flags);
    header[8..].copy_from_slice(&crc(&flags).to_le_bytes());
    header
}

/// Index and footer of a stream of this one block.
fn stream_tail(block: &Block) -> Vec<u8> {
    let mut tail = vec![0, 1];
    put_varint(&mut tail, block.unpadded);
    put_varint(&mut tail, block.content);
    tail.resize(tail.len().next_multiple_of(4), 0);
    let sum = crc(&tail);
    tail.extend_from_slice(&sum.to_le_bytes());
    let units = u32::try_from(tail.len() / 4 - 1).unwrap_or(0);
    let mut footer = units.to_le_bytes().to_vec();
    footer.extend_from_slice(&block.flags);
    tail.extend_from_slice(&crc(&footer).to_le_bytes());
    tail.extend_from_slice(&footer);
    tail.extend_from_slice(FOOTER_MAGIC);
    tail
}

type OneBlock = XzReader<Chain<Chain<Cursor<[u8; 12]>, Input>, Cursor<Vec<u8>>>>;

/// The decoder.
pub(super) struct Xz {
    range: FileRange,
    blocks: Arc<Blocks>,
    /// The block being decoded, else the next one.
    number: usize,
    /// Its reader, and the bytes of content still to come.
    open: Option<(OneBlock, u64)>,
}

impl Xz {
    /// At the start of block `number`.
    pub(super) fn at(range: &FileRange, blocks: Arc<Blocks>, number: usize) -> Self {
        Self {
            range: range.clone(),
            blocks,
            number,
            open: None,
        }
    }

    fn open_block(&self, block: &Block) -> OneBlock {
        let padded = block.unpadded.next_multiple_of(4);
        let data = Input::part(&self.range, block.start, block.start + padded);
        let stream = Cursor::new(stream_header(block.flags))
            .chain(data)
            .chain(Cursor::new(stream_tail(block)));
        XzReader::new(stream, false)
    }
}

/// The reader's error, or ours that passed through it.
fn failed(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => Error::corrupt(format!("expected an xz block: {error}")),
    }
}

impl Decode for Xz {
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let Some(&block) = self.blocks.list.get(self.number) else {
                break;
            };
            let (reader, left) = match &mut self.open {
                Some((reader, left)) => (reader, left),
                // A restart is possible here: stop, unless nothing was decoded yet.
                None if done > 0 => break,
                None => {
                    let reader = self.open_block(&block);
                    let (reader, left) = self.open.insert((reader, block.content));
                    (reader, left)
                }
            };
            let at_block = |e: Error| e.at(block.start);
            let len = reader
                .read(&mut buf[done..])
                .map_err(|e| at_block(failed(e)))?;
            if len as u64 > *left || (len == 0 && *left > 0) {
                let message = format!(
                    "expected {} bytes in an xz block as the index has it, found {}",
                    block.content,
                    if len == 0 { "fewer" } else { "more" }
                );
                return Err(at_block(Error::corrupt(message)));
            }
            *left -= len as u64;
            done += len;
            // The check is compared by the read that finds the end.
            if *left == 0 {
                if len > 0 && reader.read(&mut [0]).map_err(|e| at_block(failed(e)))? > 0 {
                    let message = format!(
                        "expected {} bytes in an xz block as the index has it, found more",
                        block.content
                    );
                    return Err(at_block(Error::corrupt(message)));
                }
                self.open = None;
                self.number += 1;
            }
        }
        Ok(done)
    }

    fn restart(&self) -> Option<Restart> {
        let more = self.number < self.blocks.list.len();
        (self.open.is_none() && more).then_some(Restart::Xz(self.number))
    }
}
