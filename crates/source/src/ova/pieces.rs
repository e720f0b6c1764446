//! A disk that lies in several files `NAME.N`. Two things are written so:
//!
//! - **Chunks** (DSP0243 1.1.0, 7.1, `ovf:chunkSize`): NAME.000000000, NAME.000000001, …, pieces of one file, all of
//!   `chunkSize` bytes but the last.
//! - **Snapshots**: exporters on VMware's side left a reference to NAME and put NAME.000000000 there, or one file for each
//!   snapshot; the highest number is the current state (virt-v2v, RHBZ#1570407).
//!
//! `ovf:chunkSize` means the first. Without it the sizes and the beginnings of the files decide; where they do not,
//! the disk is refused, as every guess could give a wrong disk.

use image::FileRange;
use image::formats::Format;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::ovf::FileRef;
use crate::package::Package;

/// Digits of a chunk's number (DSP0243 1.1.0, 7.1).
const DIGITS: usize = 9;

/// A file `NAME.N`.
struct Piece {
    number: u64,
    /// The number is written with nine digits.
    is_chunk: bool,
    range: FileRange,
}

/// The file that `file` means when no file has its name or when it is chunked; `None` when there are no pieces either.
pub(super) fn find(
    package: &Package,
    file: &FileRef,
    warnings: &mut Vec<String>,
) -> Result<Option<FileRange>> {
    let mut pieces = list(package, &file.href)?;
    pieces.sort_by_key(|piece| piece.number);
    let label = format!("{} in {} pieces", shown(&file.href), pieces.len());
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
        return match file.chunk_size {
            Some(_) => whole_after_all(package, file, warnings),
            None => Ok(None),
        };
    };
    if file.chunk_size.is_some() {
        return joined(pieces, file, label).map(Some);
    }
    let total: u64 = pieces.iter().map(|piece| piece.range.len()).sum();
    let (first_len, last_len) = (first.range.len(), last.range.len());
    if pieces.len() == 1 {
        return Ok(pieces.pop().map(|piece| piece.range));
    }
    let newest = last.range.clone();
    if file.size == Some(total) && file.size != Some(last_len) {
        return joined(pieces, file, label).map(Some);
    }
    let mut images = 0;
    for piece in &pieces {
        images += usize::from(is_image(&piece.range)?);
    }
    let even = pieces
        .iter()
        .take(pieces.len() - 1)
        .all(|piece| piece.range.len() == first_len)
        && last_len <= first_len;
    if images == pieces.len() && file.size.is_none_or(|size| size == last_len) {
        warnings.push(format!(
            "`{}` is absent; of its {} snapshots the newest is taken, {}",
            shown(&file.href),
            pieces.len(),
            newest.label()
        ));
        return Ok(Some(newest));
    }
    if images <= 1 && even && file.size.is_none() && is_image(&first.range)? {
        warnings.push(format!(
            "`{}` is absent; its {} pieces are put together, although the descriptor does not state ovf:chunkSize",
            shown(&file.href),
            pieces.len()
        ));
        return joined(pieces, file, label).map(Some);
    }
    let message = format!(
        "missing disk: expected the file `{}`, found {} files with numbers that are neither its chunks (no \
         ovf:chunkSize) nor clearly its snapshots",
        shown(&file.href),
        pieces.len()
    );
    Err(Error::new(ErrorKind::Missing, message).in_file(package.label()))
}

/// A file that is not cut although the descriptor says so: right when it would be one chunk anyway.
fn whole_after_all(
    package: &Package,
    file: &FileRef,
    warnings: &mut Vec<String>,
) -> Result<Option<FileRange>> {
    let found = package.find(&file.href)?;
    if found.is_some() {
        warnings.push(format!(
            "`{}` is in one piece, although the descriptor states chunks (ovf:chunkSize)",
            shown(&file.href)
        ));
    }
    Ok(found)
}

fn list(package: &Package, href: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for (name, suffix) in package.numbered(href)? {
        let (Ok(number), Some(range)) = (suffix.parse(), package.get(&name)?) else {
            continue;
        };
        pieces.push(Piece {
            number,
            is_chunk: suffix.len() == DIGITS,
            range,
        });
    }
    Ok(pieces)
}

/// All chunks in order, checked for holes and sizes.
fn joined(pieces: Vec<Piece>, file: &FileRef, label: String) -> Result<FileRange> {
    let chunk_size = file
        .chunk_size
        .or_else(|| pieces.first().map(|piece| piece.range.len()))
        .unwrap_or(0);
    let chunks: Vec<Piece> = pieces.into_iter().filter(|piece| piece.is_chunk).collect();
    let last = chunks.len().saturating_sub(1);
    for (index, piece) in chunks.iter().enumerate() {
        if piece.number != index as u64 {
            let message = format!(
                "missing chunk: expected the file `{}.{index:0DIGITS$}`, found `{}.{:0DIGITS$}` next",
                shown(&file.href),
                shown(&file.href),
                piece.number
            );
            return Err(Error::new(ErrorKind::Missing, message));
        }
        let len = piece.range.len();
        let fits = if index == last {
            len <= chunk_size && (len > 0 || index == 0)
        } else {
            len == chunk_size
        };
        if !fits {
            let at_most = if index == last { "at most " } else { "" };
            let message =
                format!("expected a chunk of {at_most}{chunk_size} bytes, found {len} bytes");
            return Err(Error::new(ErrorKind::Truncated, message).in_file(piece.range.label()));
        }
    }
    let ranges: Vec<FileRange> = chunks.into_iter().map(|piece| piece.range).collect();
    let total: u64 = ranges.iter().map(FileRange::len).sum();
    if let Some(size) = file.size.filter(|size| *size > total) {
        let message = format!(
            "missing chunk: expected {size} bytes of `{}` as the descriptor states, found {total} in {} chunks",
            shown(&file.href),
            ranges.len()
        );
        return Err(Error::new(ErrorKind::Missing, message));
    }
    let place = match ranges.first() {
        Some(first) => first.label().to_owned(),
        None => label.clone(),
    };
    // Images that name files beside them go by the label: that of a piece has the right folder.
    let label = place
        .rsplit_once('.')
        .map_or(label, |(front, _)| front.to_owned());
    Ok(FileRange::concat(ranges, label)?)
}

/// True when the file begins like a disk image, packed or not.
fn is_image(range: &FileRange) -> Result<bool> {
    if range.packing()?.is_some() {
        return Ok(true);
    }
    Ok(Format::probe(range)? != Format::Raw)
}
