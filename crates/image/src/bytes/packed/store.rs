//! A packed file as bytes with random access.

use std::fmt;
use std::sync::Arc;

use super::index::Index;
use super::pool::{Pool, Turn};
use super::{CHUNK, Codec, Decode, Unpack};
use crate::bytes::{ByteStore, FileId, FileRange};
use crate::{Error, Result};

/// The open file.
pub(super) struct Store {
    // Before `codec`, which the decoders borrow from by being made anew: see `decoder`.
    pool: Pool<Live>,
    codec: Arc<Codec>,
    index: Index,
    id: Option<FileId>,
}

/// A decoder with what it decodes.
struct Live(Box<dyn Decode>);

impl Store {
    pub(super) fn open(range: &FileRange, how: &Unpack) -> Result<Self> {
        let codec = Codec::new(range, how.packing)?;
        let index = Index::build(&codec, how.max_len, &how.cancel)?;
        Ok(Self {
            pool: Pool::new(codec.decoder_size()),
            codec: Arc::new(codec),
            index,
            // A file inside an archive has no identity of its own.
            id: range
                .id()
                .and_then(|(id, start)| (start == 0).then_some(id)),
        })
    }

    /// Decodes the chunk at `offset`, a multiple of [`CHUNK`].
    fn chunk(&self, offset: u64) -> Result<Arc<[u8]>> {
        let after = self
            .index
            .points
            .partition_point(|point| point.offset <= offset);
        let point = after
            .checked_sub(1)
            .and_then(|last| self.index.points.get(last))
            .ok_or_else(|| Error::corrupt("no restart point"))?;
        let mut lease = match self.pool.turn(offset, point.offset) {
            Turn::Chunk(chunk) => return Ok(chunk),
            Turn::Decode(lease) => lease,
        };
        let (mut live, mut at) = match lease.decoder.take() {
            Some(found) => found,
            None => (Live(self.codec.resume(&point.restart)?), point.offset),
        };
        loop {
            // A restart point may lie within a chunk; that chunk's end alone is of no use.
            let start = at;
            let end = (start / CHUNK + 1)
                .saturating_mul(CHUNK)
                .min(self.index.len);
            let mut buf = vec![0; usize::try_from(end - start).unwrap_or(0)];
            let mut filled = 0;
            while filled < buf.len() {
                match live.0.fill(&mut buf[filled..])? {
                    0 => {
                        let message = format!(
                            "the packed file changed: expected {} unpacked bytes, found {}",
                            self.index.len,
                            start + filled as u64
                        );
                        return Err(Error::corrupt(message));
                    }
                    len => filled += len,
                }
            }
            at = end;
            if start.is_multiple_of(CHUNK) {
                let chunk: Arc<[u8]> = buf.into();
                self.pool.keep(start, Arc::clone(&chunk));
                if start == offset {
                    lease.finish(live, at);
                    return Ok(chunk);
                }
            }
        }
    }
}

impl ByteStore for Store {
    fn len(&self) -> u64 {
        self.index.len
    }

    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            let (data, run) = self.index.data.at(offset);
            let mut len = usize::try_from(run).map_or(buf.len(), |run| run.min(buf.len()));
            if !data {
                buf[..len].fill(0);
            } else if let Some(here) = self.index.scratch.covers(offset) {
                len = usize::try_from(here).map_or(len, |here| here.min(len));
                self.index.scratch.read(&mut buf[..len], offset)?;
            } else {
                let start = offset - offset % CHUNK;
                let chunk = self.chunk(start)?;
                let within = usize::try_from(offset - start).unwrap_or(0);
                let bytes = chunk.get(within..).filter(|bytes| !bytes.is_empty());
                let bytes = bytes.ok_or_else(|| {
                    Error::io("reading", std::io::ErrorKind::UnexpectedEof.into())
                })?;
                len = len.min(bytes.len());
                buf[..len].copy_from_slice(&bytes[..len]);
            }
            buf = &mut buf[len..];
            offset += len as u64;
        }
        Ok(())
    }

    fn run_at(&self, offset: u64, max_len: u64) -> (bool, u64) {
        let (data, run) = self.index.data.at(offset);
        (data, run.min(max_len))
    }

    fn is_sparse(&self) -> bool {
        !self.index.data.is_dense(self.index.len)
    }

    fn id(&self) -> Option<FileId> {
        self.id
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Packed({:?}, {} bytes, {} restart points)",
            self.codec.range,
            self.index.len,
            self.index.points.len()
        )
    }
}
