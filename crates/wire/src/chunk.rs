//! The codec of chunks: made by the agent from what it read, checked by the server before anything of it is used.
//!
//! A chunk says of each block that it is zero, that it is what the server has already, or what its bytes are; the hash
//! of each block that travels is of the uncompressed bytes. The agent is not trusted: every length, mask, range and
//! hash is checked against the request.

use std::ops::Range;

use bytes::Bytes;

use crate::session::{self, Chunk, Encoding, ReadRequest};
use crate::{BLOCK_LEN, MAX_CHUNK_LEN};

/// BLAKE3 of a block.
pub type BlockHash = [u8; HASH_LEN];
/// Bytes of a hash.
pub const HASH_LEN: usize = 32;
/// zstd's fastest ordinary level: about as fast as a 10 Gbit/s line on one core.
const ZSTD_LEVEL: i32 = 1;
/// Data that do not shrink below 15/16 travel as they are.
const WORTH_NUMERATOR: usize = 15;
const WORTH_DENOMINATOR: usize = 16;

/// Why a chunk was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// A field contradicts the request or another field.
    #[error("the agent's answer for disk {disk} at {offset:#x} is malformed: {what}")]
    Malformed {
        /// Disk of the request.
        disk: u32,
        /// Byte offset of the request.
        offset: u64,
        /// Expected and found.
        what: String,
    },
    /// Bytes and hash differ.
    #[error("disk {disk} at {offset:#x}: the data do not have the hash that the agent states")]
    WrongHash {
        /// Disk of the block.
        disk: u32,
        /// Byte offset of the block.
        offset: u64,
    },
}

/// Hash of one block.
pub fn block_hash(block: &[u8]) -> BlockHash {
    *blake3::hash(block).as_bytes()
}

/// When the agent compresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// Never: the network is faster than zstd.
    #[default]
    Never,
    /// Where it shrinks.
    Zstd,
}

/// What [`build`] made, and what it learned on the way.
#[derive(Debug)]
pub struct Built {
    /// The answer.
    pub chunk: Chunk,
    /// Hash of every block in order; `None` for one of zeroes.
    pub hashes: Vec<Option<BlockHash>>,
}

/// Makes the answer to `request` from the bytes that were read. `bad` are the byte ranges on the disk that could not
/// be; zeroes stand in `plain` for them. Neighbouring blocks that travel uncompressed are not copied.
pub fn build(
    request: &ReadRequest,
    plain: &Bytes,
    bad: Vec<session::Range>,
    compress: Compress,
) -> Built {
    let (mut zero_blocks, mut same_blocks) = (0u32, 0u32);
    let mut hashes = Vec::new();
    let mut sent_hashes = Vec::new();
    // Runs of neighbours that travel.
    let mut sent: Vec<Range<usize>> = Vec::new();
    let known = request.known_hashes.chunks(HASH_LEN);
    let known = known.map(Some).chain(std::iter::repeat(None));
    for ((index, block), known) in plain.chunks(BLOCK_LEN as usize).enumerate().zip(known) {
        if is_zero(block) {
            zero_blocks |= 1 << index;
            hashes.push(None);
            continue;
        }
        let hash = block_hash(block);
        hashes.push(Some(hash));
        if known == Some(&hash[..]) {
            same_blocks |= 1 << index;
        } else {
            sent_hashes.extend_from_slice(&hash);
            let start = index * BLOCK_LEN as usize;
            let end = start + block.len();
            match sent.last_mut() {
                Some(run) if run.end == start => run.end = end,
                _ => sent.push(start..end),
            }
        }
    }
    let (encoding, data) = encode(plain, &sent, compress);
    let chunk = Chunk {
        id: request.id,
        disk: request.disk,
        offset: request.offset,
        len: request.len,
        zero_blocks,
        same_blocks,
        hashes: sent_hashes,
        encoding: encoding.into(),
        data,
        bad,
        error: String::new(),
    };
    Built { chunk, hashes }
}

/// The answer when nothing could be read.
pub fn failed(request: &ReadRequest, error: String) -> Chunk {
    Chunk {
        id: request.id,
        disk: request.disk,
        offset: request.offset,
        len: request.len,
        error,
        ..Chunk::default()
    }
}

fn encode(plain: &Bytes, runs: &[Range<usize>], compress: Compress) -> (Encoding, Bytes) {
    let plain = match runs {
        [] => Bytes::new(),
        [run] => plain.slice(run.clone()),
        runs => {
            let runs = runs.iter().filter_map(|run| plain.get(run.clone()));
            runs.collect::<Vec<_>>().concat().into()
        }
    };
    if compress == Compress::Zstd
        && !plain.is_empty()
        && let Ok(small) = zstd::bulk::compress(&plain, ZSTD_LEVEL)
        && small.len() < plain.len() / WORTH_DENOMINATOR * WORTH_NUMERATOR
    {
        return (Encoding::Zstd, small.into());
    }
    (Encoding::Plain, plain)
}

/// All zero: an OR-fold over wide words, which the compiler turns into vector code.
fn is_zero(block: &[u8]) -> bool {
    const STEP: usize = 4096;
    block.chunks(STEP).all(|step| {
        let (head, words, tail) = (step.chunks_exact(16), step.chunks_exact(16), step);
        let tail = &tail[head.len() * 16..];
        let folded = words
            .filter_map(|word| word.try_into().ok())
            .fold(0u128, |sum, word| sum | u128::from_ne_bytes(word));
        folded == 0 && tail.iter().all(|&byte| byte == 0)
    })
}

/// What a chunk says of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockContent {
    /// All zero.
    Zero,
    /// It has the hash that the request named.
    Same,
    /// Its bytes.
    Data {
        /// Their hash, which was checked.
        hash: BlockHash,
        /// Where they are in [`Verified::plain`].
        at: Range<usize>,
    },
}

/// A chunk of which everything was checked.
#[derive(Debug)]
pub struct Verified {
    /// The uncompressed bytes that travelled.
    pub plain: Bytes,
    /// Each block of the request, in order.
    pub blocks: Vec<BlockContent>,
    /// What could not be read: byte ranges on the disk, ascending and apart.
    pub bad: Vec<Range<u64>>,
}

/// Checks an answer against its request. The chunk's `error` is the caller's to look at first.
pub fn verify(request: &ReadRequest, chunk: &Chunk) -> Result<Verified, ChunkError> {
    let wrong = |what: String| ChunkError::Malformed {
        disk: request.disk,
        offset: request.offset,
        what,
    };
    if (chunk.id, chunk.disk, chunk.offset, chunk.len)
        != (request.id, request.disk, request.offset, request.len)
    {
        return Err(wrong(format!(
            "it is for {} bytes of disk {} at {:#x}",
            chunk.len, chunk.disk, chunk.offset
        )));
    }
    let count = request.len.div_ceil(BLOCK_LEN);
    let mask = u32::try_from((1u64 << count) - 1).unwrap_or(u32::MAX);
    let named = chunk.zero_blocks | chunk.same_blocks;
    if chunk.zero_blocks & chunk.same_blocks != 0 || named & !mask != 0 {
        return Err(wrong("its block masks contradict each other".to_owned()));
    }
    if chunk.same_blocks != 0 && request.known_hashes.is_empty() {
        return Err(wrong(
            "it leaves out blocks of which no hash was named".to_owned(),
        ));
    }
    let lens: Vec<(u32, usize)> = (0..count)
        .map(|index| {
            (
                index,
                (request.len - index * BLOCK_LEN).min(BLOCK_LEN) as usize,
            )
        })
        .collect();
    let expected: usize = lens
        .iter()
        .filter(|(index, _)| named & (1 << index) == 0)
        .map(|(_, len)| len)
        .sum();
    let plain = decode(chunk, expected).map_err(wrong)?;
    let mut hashes = chunk.hashes.chunks_exact(HASH_LEN);
    let sent = count - named.count_ones();
    if chunk.hashes.len() != sent as usize * HASH_LEN {
        return Err(wrong(format!(
            "expected {sent} hashes, found {} bytes of them",
            chunk.hashes.len()
        )));
    }
    let mut blocks = Vec::with_capacity(lens.len());
    let mut next = 0;
    for (index, len) in lens {
        if chunk.zero_blocks & (1 << index) != 0 {
            blocks.push(BlockContent::Zero);
        } else if chunk.same_blocks & (1 << index) != 0 {
            blocks.push(BlockContent::Same);
        } else {
            let at = next..next + len;
            next += len;
            let found = plain.get(at.clone()).map(block_hash);
            let stated: Option<BlockHash> = hashes.next().and_then(|hash| hash.try_into().ok());
            match (found, stated) {
                (Some(found), Some(stated)) if found == stated => {
                    blocks.push(BlockContent::Data { hash: found, at });
                }
                _ => {
                    return Err(ChunkError::WrongHash {
                        disk: request.disk,
                        offset: request.offset + u64::from(index * BLOCK_LEN),
                    });
                }
            }
        }
    }
    let bad = bad_ranges(request, chunk).map_err(wrong)?;
    Ok(Verified { plain, blocks, bad })
}

fn decode(chunk: &Chunk, expected: usize) -> Result<Bytes, String> {
    let plain = match chunk.encoding() {
        Encoding::Plain => chunk.data.clone(),
        Encoding::Zstd => zstd::bulk::decompress(&chunk.data, expected.min(MAX_CHUNK_LEN as usize))
            .map_err(|error| format!("its zstd frame is damaged or too long: {error}"))?
            .into(),
    };
    if plain.len() == expected {
        Ok(plain)
    } else {
        Err(format!(
            "expected {expected} bytes of data, found {}",
            plain.len()
        ))
    }
}

fn bad_ranges(request: &ReadRequest, chunk: &Chunk) -> Result<Vec<Range<u64>>, String> {
    let end = request.offset + u64::from(request.len);
    let mut last = request.offset;
    let mut bad = Vec::with_capacity(chunk.bad.len());
    for range in &chunk.bad {
        let stop = range.offset.checked_add(range.len);
        match stop {
            Some(stop) if range.offset >= last && range.len > 0 && stop <= end => {
                bad.push(range.offset..stop);
                last = stop;
            }
            _ => {
                return Err(format!(
                    "its unreadable range of {} bytes at {:#x} is outside of it or out of order",
                    range.len, range.offset
                ));
            }
        }
    }
    Ok(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = BLOCK_LEN as usize;

    fn request(len: usize) -> ReadRequest {
        ReadRequest {
            id: 5,
            disk: 1,
            offset: 1 << 20,
            len: u32::try_from(len).unwrap(),
            ..ReadRequest::default()
        }
    }

    /// Data, zeroes, data that do not shrink, and a short end.
    fn plain() -> Bytes {
        let mut plain = vec![7u8; BLOCK];
        plain.extend(vec![0; BLOCK]);
        let noise: Vec<u8> = (0u32..16 << 10)
            .flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes())
            .take(BLOCK)
            .collect();
        plain.extend(noise);
        plain.extend(vec![9; 512]);
        plain.into()
    }

    fn read_back(verified: &Verified) -> Vec<Option<Vec<u8>>> {
        verified
            .blocks
            .iter()
            .map(|block| match block {
                BlockContent::Data { at, .. } => Some(verified.plain[at.clone()].to_vec()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_chunk_comes_back_plain_and_compressed() {
        let plain = plain();
        let request = request(plain.len());
        for compress in [Compress::Never, Compress::Zstd] {
            let built = build(&request, &plain, vec![], compress);
            let verified = verify(&request, &built.chunk).unwrap();
            assert_eq!(verified.blocks[1], BlockContent::Zero);
            let back = read_back(&verified);
            for (index, block) in plain.chunks(BLOCK).enumerate().filter(|(i, _)| *i != 1) {
                assert_eq!(back[index].as_deref(), Some(block), "block {index}");
            }
            assert_eq!(built.hashes[1], None);
            assert_eq!(built.hashes[0], Some(block_hash(&plain[..BLOCK])));
        }
    }

    #[test]
    fn noise_is_not_sent_as_zstd_and_a_block_that_is_known_is_not_sent() {
        let plain = plain();
        let mut request = request(plain.len());
        let built = build(
            &request,
            &plain.slice(2 * BLOCK..3 * BLOCK),
            vec![],
            Compress::Zstd,
        );
        assert_eq!(built.chunk.encoding(), Encoding::Plain);
        for block in plain.chunks(BLOCK) {
            request.known_hashes.extend(block_hash(block));
        }
        let built = build(&request, &plain, vec![], Compress::Never);
        assert_eq!(built.chunk.data.len(), 0);
        let verified = verify(&request, &built.chunk).unwrap();
        assert_eq!(verified.blocks[0], BlockContent::Same);
        assert_eq!(verified.blocks[1], BlockContent::Zero);
    }

    #[test]
    fn lies_are_refused() {
        let plain = plain();
        let request = request(plain.len());
        let good = build(&request, &plain, vec![], Compress::Never).chunk;
        type Lie = fn(&mut Chunk);
        let lies: &[(&str, Lie)] = &[
            ("other id", |c| c.id += 1),
            ("other disk", |c| c.disk += 1),
            ("past the end", |c| c.offset += 1 << 40),
            ("longer", |c| c.len += 512),
            ("less data", |c| c.data.truncate(c.data.len() - 1)),
            ("more data", |c| {
                c.data = [&c.data[..], b"x"].concat().into()
            }),
            ("a hash too few", |c| c.hashes.truncate(64)),
            ("another hash", |c| c.hashes[3] ^= 1),
            ("mask past the end", |c| c.zero_blocks |= 1 << 9),
            ("both masks", |c| c.same_blocks = c.zero_blocks),
            ("same without a hash", |c| {
                c.same_blocks = 1;
                c.hashes.drain(..HASH_LEN);
                c.data = c.data.slice(BLOCK..);
            }),
            ("unknown encoding falls to plain", |c| {
                c.encoding = 1;
            }),
            ("bad range outside", |c| {
                c.bad = vec![session::Range {
                    offset: 0,
                    len: 512,
                }];
            }),
            ("bad range overflows", |c| {
                c.bad = vec![session::Range {
                    offset: 1 << 20,
                    len: u64::MAX,
                }];
            }),
            ("bad ranges overlap", |c| {
                let range = session::Range {
                    offset: 1 << 20,
                    len: 1024,
                };
                c.bad = vec![range, range];
            }),
        ];
        assert!(verify(&request, &good).is_ok());
        for (name, lie) in lies {
            let mut chunk = good.clone();
            lie(&mut chunk);
            assert!(verify(&request, &chunk).is_err(), "{name}");
        }
        // A frame that would unpack to more than was asked for.
        let mut bomb = good;
        bomb.encoding = Encoding::Zstd.into();
        bomb.data = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap().into();
        assert!(verify(&request, &bomb).is_err());
    }
}
