//! Packets of SFTP version 3 (draft-ietf-secsh-filexfer-02): a length of 4 bytes, a type of 1 byte, fields. All numbers
//! are big-endian; a string is a length of 4 bytes and as many bytes.

use std::io::Read;

use image::{Error, ErrorKind, Result};

/// Types of packets (draft-ietf-secsh-filexfer-02, 3).
pub(super) mod kind {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const VERSION: u8 = 2;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const FSTAT: u8 = 8;
    pub(in super::super) const REALPATH: u8 = 16;
    pub(in super::super) const STATUS: u8 = 101;
    pub(in super::super) const HANDLE: u8 = 102;
    pub(in super::super) const DATA: u8 = 103;
    pub(in super::super) const NAME: u8 = 104;
    pub(in super::super) const ATTRS: u8 = 105;
}

/// Codes of a STATUS (draft-ietf-secsh-filexfer-02, 7).
pub(super) mod status {
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
}

/// `SSH_FXF_READ` of OPEN (6.3).
pub(super) const OPEN_READ: u32 = 1;
/// Presence of the fields of ATTRS (5).
const ATTR_SIZE: u32 = 1;
const ATTR_UIDGID: u32 = 1 << 1;
const ATTR_PERMISSIONS: u32 = 1 << 2;
/// The file type in the permissions, as in POSIX.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;

/// Longest packet that is taken: the limit of OpenSSH's own programs.
const MAX_PACKET_LEN: usize = 256 << 10;
/// Longest handle (3).
const MAX_HANDLE_LEN: usize = 256;

/// A packet being made.
#[derive(Debug)]
pub(super) struct Request(Vec<u8>);

impl Request {
    pub(super) fn new(kind: u8, id: u32) -> Self {
        let mut bytes = vec![0, 0, 0, 0, kind];
        bytes.extend_from_slice(&id.to_be_bytes());
        Self(bytes)
    }

    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn long(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Paths and handles; both are short.
    pub(super) fn string(self, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut this = self.number(len);
        this.0.extend_from_slice(bytes);
        this
    }

    /// The bytes for the wire.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        if let Some(front) = self.0.get_mut(..4) {
            front.copy_from_slice(&len.to_be_bytes());
        }
        self.0
    }
}

/// A packet that came in.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) kind: u8,
    /// What follows the type (and the id, once that was taken).
    body: Vec<u8>,
    taken: usize,
}

impl Reply {
    /// Reads one packet.
    pub(super) fn read(from: &mut impl Read) -> Result<Self> {
        let mut front = [0; 5];
        from.read_exact(&mut front)
            .map_err(|e| Error::io("reading from ssh", e))?;
        let [a, b, c, d, kind] = front;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(1..=MAX_PACKET_LEN).contains(&len) {
            // Text of a login script in front of the protocol is the usual reason.
            return Err(Error::corrupt(format!(
                "expected an SFTP packet of at most {MAX_PACKET_LEN} bytes, found the bytes {:?}; hint: a login script \
                 of the remote user must not print anything",
                String::from_utf8_lossy(&front)
            )));
        }
        let mut body = vec![0; len - 1];
        from.read_exact(&mut body)
            .map_err(|e| Error::io("reading from ssh", e))?;
        Ok(Self {
            kind,
            body,
            taken: 0,
        })
    }

    fn take(&mut self, len: usize) -> Result<&[u8]> {
        let stop = self.taken.checked_add(len);
        let found = stop.and_then(|stop| self.body.get(self.taken..stop));
        let Some(found) = found else {
            return Err(Error::corrupt(format!(
                "expected {len} more bytes in an SFTP packet of the type {}, found {}",
                self.kind,
                self.body.len() - self.taken
            )));
        };
        self.taken += len;
        Ok(found)
    }

    pub(super) fn number(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(u32::from_be_bytes(bytes))
    }

    fn long(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_be_bytes(bytes))
    }

    pub(super) fn string(&mut self) -> Result<&[u8]> {
        let len = self.number()? as usize;
        self.take(len)
    }

    /// The handle of an open file.
    pub(super) fn handle(&mut self) -> Result<Vec<u8>> {
        let handle = self.string()?.to_vec();
        if handle.len() > MAX_HANDLE_LEN {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected an SFTP handle of at most {MAX_HANDLE_LEN} bytes"),
            ));
        }
        Ok(handle)
    }

    /// Size and kind of a file (5).
    pub(super) fn attributes(&mut self) -> Result<Attributes> {
        let flags = self.number()?;
        let size = (flags & ATTR_SIZE != 0).then(|| self.long()).transpose()?;
        if flags & ATTR_UIDGID != 0 {
            self.long()?;
        }
        let permissions = (flags & ATTR_PERMISSIONS != 0)
            .then(|| self.number())
            .transpose()?;
        Ok(Attributes {
            size,
            is_dir: permissions.is_some_and(|mode| mode & TYPE_MASK == TYPE_DIRECTORY),
        })
    }
}

/// What FSTAT says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    pub(super) is_dir: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(bytes: &[u8]) -> Result<Reply> {
        Reply::read(&mut &bytes[..])
    }

    #[test]
    fn a_request_has_its_length_in_front() {
        let bytes = Request::new(kind::READ, 7)
            .string(b"h")
            .long(1 << 40)
            .number(9)
            .finish();
        assert_eq!(
            bytes,
            [
                0, 0, 0, 22, 5, 0, 0, 0, 7, 0, 0, 0, 1, b'h', 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 9
            ]
        );
    }

    #[test]
    fn attributes_are_read_by_their_flags() {
        let mut packet = vec![0, 0, 0, 0, kind::ATTRS];
        packet.extend_from_slice(&7u32.to_be_bytes());
        packet.extend_from_slice(&(1u64 << 33).to_be_bytes());
        packet.extend_from_slice(&[0; 8]);
        packet.extend_from_slice(&0o040_755u32.to_be_bytes());
        let len = u32::try_from(packet.len() - 4).unwrap();
        packet[..4].copy_from_slice(&len.to_be_bytes());
        let found = reply(&packet).unwrap().attributes().unwrap();
        assert_eq!((found.size, found.is_dir), (Some(1 << 33), true));
        // Cut short, the field that is missing is noticed.
        packet.truncate(packet.len() - 2);
        packet[3] -= 2;
        assert!(reply(&packet).unwrap().attributes().is_err());
    }

    #[test]
    fn what_is_no_packet_is_refused_before_it_is_allocated() {
        let text = reply(b"Welcome to ESXi\n").unwrap_err().to_string();
        assert!(
            text.contains("Welco") && text.contains("login script"),
            "{text}"
        );
        assert!(reply(&[0, 0, 0, 0, 1]).is_err());
        assert!(reply(&[0, 0, 0, 9, 1, 2]).is_err());
        let mut short = reply(&[0, 0, 0, 6, 103, 0, 0, 0, 200, 1]).unwrap();
        assert!(short.string().is_err());
    }
}
