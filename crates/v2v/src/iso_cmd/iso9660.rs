//! Finds a file on an ISO 9660 file system (ECMA-119, 4th edition).
//!
//! Read: the primary volume descriptor and directory records of plain one-extent files. Refused: other block sizes than
//! 2048, files of several extents, interleaved files, records that contradict themselves, anything outside the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};

/// Logical sector and, on every medium in use, logical block (6.1.2).
const BLOCK: u64 = 2048;
/// Volume descriptors begin behind the system area (6.2.1).
const FIRST_DESCRIPTOR: u64 = 16;
/// Nobody writes more; a bound for a set without its terminator.
const MAX_DESCRIPTORS: u64 = 64;
/// Standard identifier (8.1.2).
const IDENTIFIER: &[u8] = b"CD001";
const PRIMARY: u8 = 1;
const TERMINATOR: u8 = 255;
/// Volume identifier (8.4.7).
const VOLUME_ID: std::ops::Range<usize> = 40..72;
/// Logical block size (8.4.12).
const BLOCK_SIZE: usize = 128;
/// Directory record of the root (8.4.18).
const ROOT_RECORD: std::ops::Range<usize> = 156..190;
/// Bytes of a directory record before its name (9.1).
const RECORD_HEAD: usize = 33;
const FLAG_DIRECTORY: u8 = 1 << 1;
const FLAG_MULTI_EXTENT: u8 = 1 << 7;
/// Our folders hold a dozen names; a bound on what a foreign one makes us read.
const MAX_DIRECTORY: u64 = 1 << 20;

/// Where a file's bytes are, in bytes from the start of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Of the first byte.
    pub(super) offset: u64,
    /// Of the file.
    pub(super) len: u64,
}

/// An image whose volume descriptors were read.
#[derive(Debug)]
pub(super) struct Volume<'a> {
    file: &'a File,
    image_len: u64,
    /// Volume identifier without padding.
    pub(super) label: String,
    root: Record,
}

#[derive(Clone, Debug)]
struct Record {
    extent: Extent,
    directory: bool,
    name: Vec<u8>,
}

impl<'a> Volume<'a> {
    /// Reads the primary volume descriptor of `file`.
    pub(super) fn open(file: &'a File) -> Result<Self> {
        let image_len = file.metadata()?.len();
        for number in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + MAX_DESCRIPTORS {
            let mut descriptor = [0; 2048];
            read(file, &mut descriptor, number * BLOCK).context("not an ISO 9660 image")?;
            ensure!(
                descriptor.get(1..6) == Some(IDENTIFIER),
                "not an ISO 9660 image: no CD001 at {:#x}",
                number * BLOCK + 1
            );
            match descriptor[0] {
                PRIMARY => return Self::primary(file, image_len, &descriptor),
                TERMINATOR => bail!("not an ISO 9660 image: no primary volume descriptor"),
                _ => {}
            }
        }
        bail!("not an ISO 9660 image: more than {MAX_DESCRIPTORS} volume descriptors")
    }

    fn primary(file: &'a File, image_len: u64, descriptor: &[u8; 2048]) -> Result<Self> {
        let size = u16::from_le_bytes([descriptor[BLOCK_SIZE], descriptor[BLOCK_SIZE + 1]]);
        ensure!(
            u64::from(size) == BLOCK,
            "blocks of {size} bytes, expected {BLOCK}"
        );
        let label = String::from_utf8_lossy(&descriptor[VOLUME_ID]);
        let root = Record::parse(&descriptor[ROOT_RECORD]).context("the root's record")?;
        ensure!(root.directory, "the root is no directory");
        Ok(Self {
            file,
            image_len,
            label: label.trim_end_matches([' ', '\0']).to_owned(),
            root,
        })
    }

    /// The file at `path`, whose parts are compared without case and without a version (`;1`).
    pub(super) fn find(&self, path: &[&str]) -> Result<Extent> {
        let mut at = self.root.clone();
        for (depth, part) in path.iter().enumerate() {
            let so_far = path.get(..=depth).unwrap_or_default().join("/");
            at = self
                .entry(&at, part)
                .with_context(|| format!("looking for /{so_far}"))?;
            let last = depth + 1 == path.len();
            ensure!(at.directory != last, "/{so_far} is of the wrong kind");
        }
        let end = at.extent.offset.checked_add(at.extent.len);
        ensure!(
            end.is_some_and(|end| end <= self.image_len),
            "the image is cut off: /{} is at {:#x}, the image ends at {:#x}",
            path.join("/"),
            at.extent.offset,
            self.image_len
        );
        Ok(at.extent)
    }

    fn entry(&self, directory: &Record, name: &str) -> Result<Record> {
        let Extent { offset, len } = directory.extent;
        ensure!(
            len <= MAX_DIRECTORY,
            "a directory of {len} bytes, expected at most {MAX_DIRECTORY}"
        );
        let mut data = vec![0; usize::try_from(len)?];
        read(self.file, &mut data, offset)
            .with_context(|| format!("reading a directory at {offset:#x}"))?;
        // A record does not cross a block's end; zeroes fill the rest of the block (6.8.1.1).
        for block in data.chunks(usize::try_from(BLOCK)?) {
            let mut rest = block;
            while let Some(&record_len @ 1..) = rest.first() {
                let (record, after) = rest
                    .split_at_checked(usize::from(record_len))
                    .context("a directory record crosses the end of its block")?;
                let record = Record::parse(record)?;
                if plain(&record.name).eq_ignore_ascii_case(name.as_bytes()) {
                    return Ok(record);
                }
                rest = after;
            }
        }
        bail!("no such file on this ISO")
    }
}

impl Record {
    /// A directory record (9.1).
    fn parse(bytes: &[u8]) -> Result<Self> {
        let head: &[u8; RECORD_HEAD] = bytes
            .get(..RECORD_HEAD)
            .and_then(|head| head.try_into().ok())
            .context("a directory record is cut off")?;
        let name = bytes
            .get(RECORD_HEAD..RECORD_HEAD + usize::from(head[32]))
            .context("the name in a directory record is cut off")?;
        let (block, len) = (both(head, 2)?, both(head, 10)?);
        let flags = head[25];
        ensure!(
            flags & FLAG_MULTI_EXTENT == 0 && head[26] == 0 && head[27] == 0 && head[1] == 0,
            "a file of several extents, interleaved or with an extended attribute record is not supported"
        );
        Ok(Self {
            // At most 2^32 blocks: no overflow.
            extent: Extent {
                offset: u64::from(block) * BLOCK,
                len: u64::from(len),
            },
            directory: flags & FLAG_DIRECTORY != 0,
            name: name.to_vec(),
        })
    }
}

/// A number that is stored little endian, then big endian (7.3.3).
fn both(record: &[u8; RECORD_HEAD], at: usize) -> Result<u32> {
    let four = |at: usize| -> Result<[u8; 4]> {
        let bytes = record.get(at..at + 4).context("a record is cut off")?;
        Ok(bytes.try_into()?)
    };
    let (little, big) = (
        u32::from_le_bytes(four(at)?),
        u32::from_be_bytes(four(at + 4)?),
    );
    ensure!(
        little == big,
        "a directory record contradicts itself: {little:#x} and {big:#x}"
    );
    Ok(little)
}

/// Without `;1`.
fn plain(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b';').next().unwrap_or(name)
}

fn read(file: &File, into: &mut [u8], offset: u64) -> Result<()> {
    match file.read_exact_at(into, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            bail!("the file ends before {:#x}", offset + into.len() as u64)
        }
        result => Ok(result?),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn record(name: &[u8], block: u32, len: u32, flags: u8) -> Vec<u8> {
        let mut bytes = vec![0; (RECORD_HEAD + name.len()).next_multiple_of(2)];
        bytes[0] = u8::try_from(bytes.len()).unwrap();
        bytes[2..6].copy_from_slice(&block.to_le_bytes());
        bytes[6..10].copy_from_slice(&block.to_be_bytes());
        bytes[10..14].copy_from_slice(&len.to_le_bytes());
        bytes[14..18].copy_from_slice(&len.to_be_bytes());
        bytes[25] = flags;
        bytes[32] = u8::try_from(name.len()).unwrap();
        bytes[RECORD_HEAD..RECORD_HEAD + name.len()].copy_from_slice(name);
        bytes
    }

    /// An image with /P2V/CUSTOM.CFG;1, label P2V.
    pub(in super::super) fn image(custom: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 20 * 2048];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(16 * 2048, b"\x01CD001\x01");
        put(16 * 2048 + 40, b"P2V                             ");
        put(16 * 2048 + 128, &2048u16.to_le_bytes());
        put(16 * 2048 + 156, &record(&[0], 18, 2048, FLAG_DIRECTORY));
        put(17 * 2048, b"\xffCD001\x01");
        let dots = |block| {
            let dot = record(&[0], block, 2048, FLAG_DIRECTORY);
            [dot, record(&[1], 18, 2048, FLAG_DIRECTORY)].concat()
        };
        let root = [dots(18), record(b"P2V", 19, 2048, FLAG_DIRECTORY)].concat();
        put(18 * 2048, &root);
        let len = u32::try_from(custom.len()).unwrap();
        let folder = [dots(19), record(b"CUSTOM.CFG;1", 20, len, 0)].concat();
        put(19 * 2048, &folder);
        image.extend_from_slice(custom);
        image
    }

    fn find(image: &[u8]) -> Result<Extent> {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, image).unwrap();
        let volume = Volume::open(&file)?;
        assert_eq!(volume.label, "P2V");
        volume.find(&["p2v", "custom.cfg"])
    }

    #[test]
    fn a_file_is_found_by_its_directory_records() {
        let expected = Extent {
            offset: 20 * 2048,
            len: 5,
        };
        assert_eq!(find(&image(b"hello")).unwrap(), expected);
    }

    #[test]
    fn every_truncation_is_refused() {
        let image = image(b"hello");
        for len in (0..image.len()).step_by(61).chain([image.len() - 1]) {
            assert!(find(&image[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn hostile_records_are_refused_and_never_loop() {
        let good = image(b"hello");
        let at = |what: &[u8]| good.windows(what.len()).rposition(|w| w == what).unwrap();
        let (folder, file) = (
            at(b"P2V\0") - RECORD_HEAD,
            at(b"CUSTOM.CFG;1") - RECORD_HEAD,
        );
        let cases: &[(usize, &[u8], &str)] = &[
            (file + 2, &[0xff; 8], "cut off"),
            (file + 2, &[9], "contradicts"),
            (file + 25, &[FLAG_MULTI_EXTENT], "several extents"),
            (file + 26, &[1], "interleaved"),
            (file + 25, &[FLAG_DIRECTORY], "wrong kind"),
            (file + 32, &[255], "cut off"),
            (file, &[1], "cut off"),
            (folder + 10, &[0xff; 8], "at most"),
            (folder + 25, &[0], "wrong kind"),
            // The folder is the root again: nothing called CUSTOM.CFG there.
            (folder + 2, &[18, 0, 0, 0, 0, 0, 0, 18], "no such file"),
            (16 * 2048 + 128, &[0, 2], "blocks of 512"),
            (16 * 2048, &[2], "no primary"),
            (16 * 2048 + 1, b"XX", "CD001"),
        ];
        for (at, bytes, expected) in cases {
            let mut bad = good.clone();
            bad[*at..at + bytes.len()].copy_from_slice(bytes);
            let error = format!("{:#}", find(&bad).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn no_flipped_byte_of_the_metadata_panics() {
        let good = image(b"hello");
        for at in 16 * 2048..20 * 2048 {
            if good[at] == 0 && at % 16 != 0 {
                continue;
            }
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let _ = {
                let mut file = tempfile::tempfile().unwrap();
                io::Write::write_all(&mut file, &bad).unwrap();
                Volume::open(&file).and_then(|volume| volume.find(&["p2v", "custom.cfg"]))
            };
        }
    }
}
