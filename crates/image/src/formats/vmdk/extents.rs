//! The extents of a disk: which part of it each covers, and what is behind it (VDF 1.1, The Extent Descriptions and
//! Simple Extents).

use std::collections::HashMap;
use std::ops::Range;

use super::descriptor::Descriptor;
use super::extent_line::ExtentLine;
use super::geometry::SECTOR;
use super::header::Header;
use super::reader::Signature;
use super::sparse::{Below, SparseExtent};
use super::{cowd, sesparse};
use crate::formats::context::Context;
use crate::{Error, ErrorKind, Extent, ExtentKind, FileRange, Result};

/// An extent and its place on the disk.
#[derive(Debug)]
pub(super) struct Placed {
    /// Bytes of the disk.
    pub(super) place: Range<u64>,
    /// The type in the descriptor's word.
    pub(super) kind: String,
    /// Where they are.
    pub(super) body: Body,
}

/// What is behind an extent.
#[derive(Debug)]
pub(super) enum Body {
    /// Grains that are found by tables.
    Sparse(Box<SparseExtent>),
    /// Bytes of a file as they are.
    Flat {
        /// The file.
        range: FileRange,
        /// First byte in it.
        start: u64,
    },
    /// Zeroes.
    Zero,
}

impl Body {
    /// Fills `buf` from byte `offset` of the extent; the range lies within it.
    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64, below: Below<'_>) -> Result<()> {
        match self {
            Self::Sparse(extent) => extent.read_at(buf, offset, below),
            Self::Flat { range, start } => range.read_exact_at(buf, start + offset),
            Self::Zero => {
                buf.fill(0);
                Ok(())
            }
        }
    }

    /// The run at byte `offset` of the extent, at most `max_len` bytes, within it. What is unallocated in the extent
    /// is the parent's.
    pub(super) fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let (kind, len) = match self {
            Self::Sparse(extent) => return extent.extent_at(offset, max_len),
            Self::Flat { range, start } => match range.run_at(start + offset, max_len) {
                (true, len) => (ExtentKind::Data, len),
                (false, len) => (ExtentKind::Zero, len),
            },
            Self::Zero => (ExtentKind::Zero, max_len),
        };
        Ok(Extent { offset, len, kind })
    }

    /// The file, where there is one.
    pub(super) fn file(&self) -> Option<&FileRange> {
        match self {
            Self::Sparse(extent) => Some(extent.range()),
            Self::Flat { range, .. } => Some(range),
            Self::Zero => None,
        }
    }
}

/// Opens every extent that the descriptor in `child` names.
pub(super) fn open_all(
    child: &FileRange,
    descriptor: &Descriptor,
    context: &Context,
) -> Result<Vec<Placed>> {
    let mut opener = Opener {
        child,
        context,
        files: HashMap::new(),
    };
    let mut next = 0_u64;
    let mut placed = Vec::with_capacity(descriptor.extents.len());
    for (number, line) in descriptor.extents.iter().enumerate() {
        let end = line
            .sectors
            .checked_mul(SECTOR)
            .and_then(|len| next.checked_add(len))
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Limit,
                    format!(
                        "extent {} of {} sectors ends beyond any disk",
                        number + 1,
                        line.sectors
                    ),
                )
            })?;
        if end == next {
            continue;
        }
        let body = opener.open(line, end - next)?;
        placed.push(Placed {
            place: next..end,
            kind: line.kind.clone(),
            body,
        });
        next = end;
    }
    if placed.is_empty() {
        return Err(Error::corrupt(
            "expected a descriptor with at least one extent, found none",
        ));
    }
    Ok(placed)
}

struct Opener<'a> {
    child: &'a FileRange,
    context: &'a Context,
    /// Files that are open already: a partitioned disk names one many times.
    files: HashMap<&'a [u8], FileRange>,
}

impl<'a> Opener<'a> {
    fn open(&mut self, line: &'a ExtentLine, len: u64) -> Result<Body> {
        let is_zero = line.kind == "ZERO";
        if line.access == "NOACCESS" && !is_zero {
            return Err(Error::unsupported(format!(
                "a VMDK extent that forbids access (NOACCESS {} {}) is not supported",
                line.sectors, line.kind
            )));
        }
        match line.kind.as_str() {
            "ZERO" => Ok(Body::Zero),
            "FLAT" | "VMFS" => self.flat(line, len),
            "VMFSRDM" | "VMFSRAW" => self.flat(line, len).map_err(|e| match e.kind() {
                ErrorKind::Missing => Error::unsupported(format!(
                    "a VMDK raw device mapping ({}) has its data on a LUN of the host that made it: the file {} is \
                     not here; hint: give the LUN's own content as a raw disk",
                    line.kind,
                    line.file.as_deref().unwrap_or("(none)")
                )),
                _ => e,
            }),
            "SPARSE" | "VMFSSPARSE" | "SESPARSE" => self.sparse(line, len),
            other => Err(Error::unsupported(format!(
                "a VMDK extent of type {other:?} is not supported"
            ))),
        }
    }

    fn file(&mut self, line: &'a ExtentLine) -> Result<FileRange> {
        let Some(name) = &line.name else {
            return Err(Error::corrupt(format!(
                "expected the file of an extent of type {}, found none",
                line.kind
            )));
        };
        if let Some(range) = self.files.get(name.bytes()) {
            return Ok(range.clone());
        }
        let range = name.find(self.child, self.context)?;
        self.files.insert(name.bytes(), range.clone());
        Ok(range)
    }

    fn flat(&mut self, line: &'a ExtentLine, len: u64) -> Result<Body> {
        let range = self.file(line)?;
        let start = line.offset_sectors.unwrap_or(0).checked_mul(SECTOR);
        let end = start.and_then(|start| start.checked_add(len));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(Error::corrupt(format!(
                "expected an extent within a file, found one from sector {:?}",
                line.offset_sectors
            )));
        };
        if end > range.len() {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected {len} bytes of a {} extent from {start:#x}, but the file ends at {:#x}; the file is \
                     incomplete: copy or download it again",
                    line.kind,
                    range.len()
                ),
            )
            .in_file(range.label())
            .at(range.len()));
        }
        Ok(Body::Flat { range, start })
    }

    fn sparse(&mut self, line: &'a ExtentLine, len: u64) -> Result<Body> {
        let range = self.file(line)?;
        let label = range.label().to_owned();
        let extent = open_sparse(range, line).map_err(|e| e.in_file(&label))?;
        if extent.capacity() < len {
            return Err(Error::corrupt(format!(
                "expected an extent of {} sectors as the descriptor says, found {}",
                line.sectors,
                extent.capacity() / SECTOR
            ))
            .in_file(&label));
        }
        Ok(Body::Sparse(Box::new(extent)))
    }
}

/// Opens a file of grains by what it is.
fn open_sparse(range: FileRange, line: &ExtentLine) -> Result<SparseExtent> {
    match Signature::read(&range)? {
        Some(Signature::Sparse) => {
            let header = Header::read(&range, 0)?;
            SparseExtent::open(range, &header)
        }
        Some(Signature::Cowd) => cowd::open(range),
        Some(Signature::SeSparse) => sesparse::open(range),
        Some(Signature::Descriptor) => Err(Error::corrupt(format!(
            "expected an extent of type {}, found another descriptor",
            line.kind
        ))
        .at(0)),
        None => Err(Error::corrupt(format!(
            "expected an extent of type {}, found no magic of one",
            line.kind
        ))
        .at(0)),
    }
}
