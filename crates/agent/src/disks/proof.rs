//! Hashing once more what was sent: from memory where it is remembered, else from the disk, behind urgent reads.

use tokio::sync::mpsc::UnboundedSender;
use wire::chunk::block_hash;
use wire::session::{ProofReply, ProofRequest, Range};
use wire::{BLOCK_LEN, MAX_CHUNK_LEN, MAX_PROOF_RANGES};

use super::pool::Shared;

const BLOCK: u64 = BLOCK_LEN as u64;
const CHUNK: u64 = MAX_CHUNK_LEN as u64;

/// Answers one request. Given up without use when nobody waits for the answer any more.
pub(super) fn prove(
    shared: &Shared,
    request: &ProofRequest,
    reply: &UnboundedSender<ProofReply>,
) -> ProofReply {
    let (root, error) = match root(shared, request, reply) {
        Ok(root) => (root, String::new()),
        Err(error) => (Vec::new(), error),
    };
    ProofReply {
        id: request.id,
        root,
        error,
    }
}

fn root(
    shared: &Shared,
    request: &ProofRequest,
    reply: &UnboundedSender<ProofReply>,
) -> Result<Vec<u8>, String> {
    let disk = shared.disks.get(request.disk)?;
    if request.ranges.len() > MAX_PROOF_RANGES {
        return Err(format!(
            "expected at most {MAX_PROOF_RANGES} ranges, found {}",
            request.ranges.len()
        ));
    }
    let mut last = 0;
    for range in &request.ranges {
        let end = disk.checked_end(range.offset, range.len, u64::MAX);
        let end = end.map_err(|error| error.to_string())?;
        if range.offset < last {
            return Err(format!("the range at {:#x} is out of order", range.offset));
        }
        last = end;
    }
    let mut hasher = blake3::Hasher::new();
    let mut buf = Vec::new();
    for chunk in request.ranges.iter().flat_map(chunks) {
        if reply.is_closed() || shared.stopped() {
            return Err("nobody waits for it any more".to_owned());
        }
        if !request.reread && remembered(shared, request.disk, &chunk, &mut hasher) {
            continue;
        }
        shared.give_way();
        if request.reread {
            disk.medium.forget_cached(chunk.clone());
        }
        let len = u32::try_from(chunk.end - chunk.start).unwrap_or(MAX_CHUNK_LEN);
        disk.read_chunk(chunk.start, len, false, &mut buf)
            .map_err(|error| error.to_string())?;
        for block in buf.chunks(BLOCK_LEN as usize) {
            hasher.update(&block_hash(block));
        }
    }
    Ok(hasher.finalize().as_bytes().to_vec())
}

/// Adds the hashes of a chunk if all of them are remembered.
fn remembered(
    shared: &Shared,
    disk: u32,
    chunk: &std::ops::Range<u64>,
    hasher: &mut blake3::Hasher,
) -> bool {
    let mut at = chunk.start;
    let mut hashes = Vec::new();
    while at < chunk.end {
        let len = BLOCK.min(chunk.end - at);
        match shared.memory.recall(disk, at, len) {
            Some(hash) => hashes.push(hash),
            None => return false,
        }
        at += len;
    }
    hasher.update(hashes.as_flattened());
    true
}

/// A checked range, cut at chunks.
fn chunks(range: &Range) -> impl Iterator<Item = std::ops::Range<u64>> + use<> {
    let (mut at, end) = (range.offset, range.offset.saturating_add(range.len));
    std::iter::from_fn(move || {
        let stop = (at / CHUNK + 1).saturating_mul(CHUNK).min(end);
        let found = (at < end).then_some(at..stop);
        at = stop;
        found
    })
}
