//! cpio archives of the `newc` kind: a 110-byte header in hexadecimal ASCII, the name, the data, the latter two each
//! padded to 4 bytes (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Read};

/// Header without and with checksum: "070701", "070702".
const MAGICS: [&[u8; 6]; 2] = [b"070701", b"070702"];
/// Length of the header.
const HEADER_LEN: usize = 110;
/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";
/// PATH_MAX, what the kernel accepts (init/initramfs.c).
const NAME_MAX: u32 = 4096;
/// No initramfs has more files.
const ENTRIES_MAX: u32 = 1 << 20;

/// File type bits of a mode, and the types used here (inode(7)).
pub(crate) const S_IFMT: u32 = 0o170_000;
pub(crate) const S_IFREG: u32 = 0o100_000;
pub(crate) const S_IFDIR: u32 = 0o040_000;
pub(crate) const S_IFLNK: u32 = 0o120_000;

/// One entry: its name without leading `./` or `/`, its mode with file type, and its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) mode: u32,
    pub(crate) len: u32,
}

/// True for the first bytes of an archive.
pub(crate) fn is_magic(bytes: &[u8]) -> bool {
    MAGICS.iter().any(|magic| bytes.starts_with(*magic))
}

/// What is given each entry, with a reader of its data; it need not read all.
pub(crate) type Visit<'v> = dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()> + 'v;

/// Reads one archive up to and with its trailer.
pub(crate) fn read_archive(reader: &mut dyn Read, visit: &mut Visit<'_>) -> io::Result<()> {
    let mut header = [0u8; HEADER_LEN];
    reader.read_exact(&mut header)?;
    read_entries(header, reader, visit)
}

/// Reads archives one after the other, zeroes between them, until the data end.
pub(crate) fn read_archives(reader: &mut dyn Read, visit: &mut Visit<'_>) -> io::Result<()> {
    let mut word = [0u8; 4];
    loop {
        match read_full(reader, &mut word)? {
            0 => return Ok(()),
            len if word
                .get(..len)
                .is_some_and(|read| read.iter().all(|&byte| byte == 0)) => {}
            4 => {
                let mut header = [0u8; HEADER_LEN];
                let (start, rest) = header.split_at_mut(4);
                start.copy_from_slice(&word);
                reader.read_exact(rest)?;
                read_entries(header, reader, visit)?;
            }
            _ => return Err(bad("trailing bytes that are no archive".into())),
        }
    }
}

fn read_entries(
    mut header: [u8; HEADER_LEN],
    reader: &mut dyn Read,
    visit: &mut Visit<'_>,
) -> io::Result<()> {
    for _ in 0..ENTRIES_MAX {
        if !is_magic(&header) {
            let found = String::from_utf8_lossy(header.get(..6).unwrap_or_default()).into_owned();
            return Err(bad(format!(
                "expected a cpio header 070701 or 070702, found {found:?}"
            )));
        }
        // Fields of 8 digits: ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check.
        let (mode, len, name_len) = (field(&header, 1)?, field(&header, 6)?, field(&header, 11)?);
        if name_len == 0 || name_len > NAME_MAX {
            return Err(bad(format!(
                "cpio name of {name_len} bytes, expected 1 to {NAME_MAX}"
            )));
        }
        let mut name = vec![0u8; name_len as usize];
        reader.read_exact(&mut name)?;
        skip(reader, pad(HEADER_LEN as u64 + u64::from(name_len)))?;
        name.pop();
        let name = String::from_utf8_lossy(&name).into_owned();
        if name == TRAILER {
            return Ok(());
        }
        let clean = name
            .trim_start_matches("./")
            .trim_start_matches('/')
            .to_owned();
        let mut data = reader.take(u64::from(len));
        visit(
            &Entry {
                name: clean,
                mode,
                len,
            },
            &mut data,
        )?;
        let rest = data.limit();
        skip(reader, rest + pad(u64::from(len)))?;
        reader.read_exact(&mut header)?;
    }
    Err(bad(format!(
        "cpio archive with more than {ENTRIES_MAX} entries"
    )))
}

fn field(header: &[u8; HEADER_LEN], index: usize) -> io::Result<u32> {
    let start = 6 + index * 8;
    let digits = header
        .get(start..start + 8)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| bad(format!("field {index} of a cpio header is not hexadecimal")))
}

/// Zero bytes up to the next multiple of 4.
fn pad(len: u64) -> u64 {
    len.wrapping_neg() & 3
}

fn skip(reader: &mut dyn Read, len: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(len), &mut io::sink())?;
    if skipped < len {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the cpio archive ends inside an entry",
        ));
    }
    Ok(())
}

fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(len) => have += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

fn bad(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Builds an archive; directories above each file are added once, before it.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    dirs: std::collections::BTreeSet<String>,
    next_ino: u32,
}

impl Builder {
    /// An archive that leaves these directories alone: the initramfs has them, or a link in their place.
    pub(crate) fn with_existing(dirs: impl IntoIterator<Item = String>) -> Self {
        Self {
            bytes: Vec::new(),
            dirs: dirs.into_iter().collect(),
            next_ino: 1,
        }
    }

    /// Adds a regular file.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.file_mode(path, 0o644, content);
    }

    /// Adds a program or script.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.file_mode(path, 0o755, content);
    }

    fn file_mode(&mut self, path: &str, mode: u32, content: &[u8]) {
        let mut above = String::new();
        let (dir, _) = path.rsplit_once('/').unwrap_or(("", path));
        for part in dir.split('/').filter(|part| !part.is_empty()) {
            if !above.is_empty() {
                above.push('/');
            }
            above.push_str(part);
            if self.dirs.insert(above.clone()) {
                self.entry(&above, S_IFDIR | 0o755, 2, &[]);
            }
        }
        self.entry(path, S_IFREG | mode, 1, content);
    }

    /// True when nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The archive with its trailer.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.next_ino = 0;
        self.entry(TRAILER, 0, 1, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, nlink: u32, content: &[u8]) {
        // Our files are modules and text: far below the format's 4 GiB.
        let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_len = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let fields = [
            self.next_ino,
            mode,
            0,
            0,
            nlink,
            0,
            len,
            0,
            0,
            0,
            0,
            name_len,
            0,
        ];
        self.next_ino = self.next_ino.wrapping_add(1);
        self.bytes.extend_from_slice(MAGICS[0]);
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut found = Vec::new();
        read_archives(&mut &bytes[..], &mut |entry, data| {
            let mut content = Vec::new();
            data.read_to_end(&mut content)?;
            found.push((entry.name.clone(), content));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn what_is_built_is_read_back() {
        let mut builder = Builder::with_existing(["usr".to_owned()]);
        builder.file("usr/lib/a", b"12345");
        builder.file("usr/lib/b", b"");
        let bytes = builder.finish();
        assert_eq!(bytes.len() % 4, 0);
        let want = [
            ("usr/lib".to_owned(), vec![]),
            ("usr/lib/a".into(), b"12345".to_vec()),
            ("usr/lib/b".into(), vec![]),
        ];
        assert_eq!(names(&bytes).unwrap(), want);
        let twice = [bytes.as_slice(), &[0; 512], bytes.as_slice()].concat();
        assert_eq!(names(&twice).unwrap().len(), 6);
    }

    #[test]
    fn every_truncation_and_every_bad_digit_is_an_error_and_no_panic() {
        let mut builder = Builder::default();
        builder.file("dir/file", &[7; 300]);
        let bytes = builder.finish();
        for len in 5..bytes.len() - 4 {
            assert!(names(&bytes[..len]).is_err(), "cut at {len}");
        }
        // The magic, and the fields that are read: mode, length, length of the name.
        for at in (0..6).chain(14..22).chain(54..62).chain(94..102) {
            let mut broken = bytes.clone();
            broken[at] = b'z';
            assert!(names(&broken).is_err(), "z at {at}");
        }
    }
}
