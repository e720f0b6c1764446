//! Pieces read as one: a disk that was cut into chunks for an archive.

use super::{ByteStore, FileRange};
use crate::{Error, ErrorKind, Result};

/// Ranges one after the other.
#[derive(Debug)]
pub(super) struct Concat {
    /// End of each piece, and the piece.
    pieces: Vec<(u64, FileRange)>,
}

impl Concat {
    /// Puts the pieces together in order.
    pub(super) fn new(ranges: Vec<FileRange>) -> Result<Self> {
        let mut end = 0u64;
        let mut pieces = Vec::with_capacity(ranges.len());
        for range in ranges {
            end = end.checked_add(range.len()).ok_or_else(|| {
                Error::new(ErrorKind::Limit, "the pieces are longer than any file")
                    .in_file(range.label())
            })?;
            if !range.is_empty() {
                pieces.push((end, range));
            }
        }
        Ok(Self { pieces })
    }

    /// The piece that holds `offset`, and the offset in it.
    fn piece(&self, offset: u64) -> Option<(&FileRange, u64)> {
        let index = self.pieces.partition_point(|(end, _)| *end <= offset);
        let (end, range) = self.pieces.get(index)?;
        Some((range, offset - (end - range.len())))
    }
}

impl ByteStore for Concat {
    fn len(&self) -> u64 {
        self.pieces.last().map_or(0, |(end, _)| *end)
    }

    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            let Some((range, within)) = self.piece(offset) else {
                return Err(Error::io(
                    "reading",
                    std::io::ErrorKind::UnexpectedEof.into(),
                ));
            };
            let len = usize::try_from(range.len() - within).map_or(buf.len(), |n| n.min(buf.len()));
            let (part, rest) = buf.split_at_mut(len);
            range.read_exact_at(part, within)?;
            buf = rest;
            offset += len as u64;
        }
        Ok(())
    }

    fn run_at(&self, offset: u64, max_len: u64) -> (bool, u64) {
        self.piece(offset)
            .map_or((true, max_len), |(range, within)| {
                range.run_at(within, max_len.min(range.len() - within))
            })
    }

    fn is_sparse(&self) -> bool {
        self.pieces.iter().any(|(_, range)| range.is_sparse())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn reads_cross_pieces() {
        let piece = |bytes: &[u8]| {
            FileRange::from_store(Arc::new(bytes.to_vec()), format!("{} bytes", bytes.len()))
        };
        let all = Concat::new(vec![piece(b"abc"), piece(b""), piece(b"de"), piece(b"f")]).unwrap();
        assert_eq!(all.len(), 6);
        for start in 0..6 {
            for end in start..=6 {
                let mut buf = vec![0; end - start];
                all.read_exact_at(&mut buf, start as u64).unwrap();
                assert_eq!(buf, b"abcdef"[start..end]);
            }
        }
        assert!(all.read_exact_at(&mut [0; 2], 5).is_err());
    }
}
