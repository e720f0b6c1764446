//! Writer of cpio archives in the "newc" format that the kernel unpacks into its initramfs.
//!
//! Layout (kernel Documentation/driver-api/early-userspace/buffer-format.rst): each member is a header of 110 ASCII
//! characters (magic `070701` and thirteen 8-digit hexadecimal fields), the name with its final zero, padding to 4
//! bytes, the data, padding to 4 bytes; the last member is called `TRAILER!!!`. Archives may follow one another.
//! Times, owners and device numbers are zero, inodes count up, so equal input gives equal bytes.

use std::io::{self, Write};

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";

const S_IFREG: u32 = 0o100_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFCHR: u32 = 0o020_000;

/// What one member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory, mode 0755.
    Directory,
    /// A regular file with its permission bits.
    File { mode: u32, data: Vec<u8> },
    /// A symbolic link.
    Symlink(String),
    /// A character device, mode 0600.
    CharDevice { major: u32, minor: u32 },
}

/// Writes members one after the other.
pub(crate) struct Archive<W: Write> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// An archive that starts at the current position of `out`, which must be a multiple of 4.
    pub(crate) fn new(out: W) -> Self {
        Archive { out, inode: 0 }
    }

    /// Adds one member; `path` has no leading slash.
    pub(crate) fn add(&mut self, path: &str, node: &Node) -> io::Result<()> {
        self.inode += 1;
        let (mode, rdev, data): (u32, (u32, u32), &[u8]) = match node {
            Node::Directory => (S_IFDIR | 0o755, (0, 0), &[]),
            Node::File { mode, data } => (S_IFREG | mode, (0, 0), data),
            Node::Symlink(to) => (S_IFLNK | 0o777, (0, 0), to.as_bytes()),
            Node::CharDevice { major, minor } => (S_IFCHR | 0o600, (*major, *minor), &[]),
        };
        self.member(path, mode, rdev, data)
    }

    /// Writes the trailer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.member(TRAILER, 0, (0, 0), &[])?;
        Ok(self.out)
    }

    fn member(&mut self, name: &str, mode: u32, rdev: (u32, u32), data: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::other(format!("{name} is too large for a cpio archive"));
        let size = u32::try_from(data.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, rdev.0, rdev.1, name_size, 0,
        ];
        self.out.write_all(MAGIC.as_bytes())?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let padding = written.next_multiple_of(4) - written;
        self.out.write_all(&[0u8; 3][..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_aligned_and_readable_by_another_reader() {
        let mut archive = Archive::new(Vec::new());
        archive.add("dev", &Node::Directory).unwrap();
        archive
            .add("dev/console", &Node::CharDevice { major: 5, minor: 1 })
            .unwrap();
        let file = Node::File {
            mode: 0o755,
            data: b"#!five".to_vec(),
        };
        archive.add("init", &file).unwrap();
        archive
            .add("bin", &Node::Symlink("usr/bin".into()))
            .unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);

        let mut names = Vec::new();
        let mut rest: &[u8] = &bytes;
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                break;
            }
            names.push((entry.name().to_owned(), entry.mode(), entry.mtime()));
            let mut data = Vec::new();
            io::Read::read_to_end(&mut reader, &mut data).unwrap();
            if names.last().is_some_and(|(name, ..)| name == "init") {
                assert_eq!(data, b"#!five");
            }
            rest = reader.finish().unwrap();
        }
        assert_eq!(
            names,
            [
                ("dev".into(), 0o040_755, 0),
                ("dev/console".into(), 0o020_600, 0),
                ("init".into(), 0o100_755, 0),
                ("bin".into(), 0o120_777, 0),
            ]
        );
    }
}
