//! GUIDs as a VHDX file has them, and new ones.

use std::fmt;

use rustix::rand::{GetRandomFlags, getrandom};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Error, Result};

/// A GUID in file order: the first three fields little-endian, the rest as written.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(super) struct Guid([u8; 16]);

impl Guid {
    /// All zero: none.
    pub(super) const NIL: Self = Self(types::Guid::NIL.0);

    /// The GUID whose digits are those of `digits`, most significant first.
    pub(super) const fn of(digits: u128) -> Self {
        Self(types::Guid::of(digits).0)
    }

    /// Reads `{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}`, in either case, with braces or without.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let guid: types::Guid = text.trim().parse().ok()?;
        Some(Self(guid.0))
    }

    /// A new random GUID (RFC 9562, version 4).
    pub(super) fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        let got = getrandom(&mut bytes, GetRandomFlags::empty())
            .map_err(|e| Error::io("getting random numbers", e.into()))?;
        if got != bytes.len() {
            return Err(Error::io(
                "getting random numbers",
                std::io::ErrorKind::UnexpectedEof.into(),
            ));
        }
        bytes[7] = bytes[7] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&types::Guid(self.0), f)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ones_differ() {
        let (a, b) = (Guid::random().unwrap(), Guid::random().unwrap());
        assert!(a != b && a != Guid::NIL);
    }
}
