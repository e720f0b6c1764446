//! GUIDs as Windows stores and writes them.

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

/// Which byte of the file each pair of digits shows, and after which a hyphen follows.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
const HYPHEN_AFTER: [usize; 4] = [3, 5, 7, 9];

impl Guid {
    /// All zero: none.
    pub(super) const NIL: Self = Self([0; 16]);

    /// The GUID whose digits are those of `digits`, most significant first.
    pub(super) const fn of(digits: u128) -> Self {
        let big = digits.to_be_bytes();
        let mut bytes = [0; 16];
        let mut i = 0;
        while i < 16 {
            bytes[ORDER[i]] = big[i];
            i += 1;
        }
        Self(bytes)
    }

    /// Reads `{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}`, in either case, with braces or without.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or(text);
        let parts: Vec<&str> = text.split('-').collect();
        let lens: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        let digits = parts.concat();
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        (lens == [8, 4, 4, 4, 12] && plain)
            .then(|| u128::from_str_radix(&digits, 16).ok().map(Self::of))?
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
        for (place, &byte) in ORDER.iter().enumerate() {
            write!(f, "{:02x}", self.0[byte])?;
            if HYPHEN_AFTER.contains(&place) {
                f.write_str("-")?;
            }
        }
        Ok(())
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
    fn text_and_bytes_are_those_of_windows() {
        let text = "{F88D4D92-6fcc-408d-9bef-9b7c89f15c89}";
        let guid = Guid::parse(text).unwrap();
        assert_eq!(
            guid.0,
            *b"\x92\x4d\x8d\xf8\xcc\x6f\x8d\x40\x9b\xef\x9b\x7c\x89\xf1\x5c\x89"
        );
        assert_eq!(guid.to_string(), "f88d4d92-6fcc-408d-9bef-9b7c89f15c89");
        assert_eq!(Guid::parse(&guid.to_string()), Some(guid));
        for bad in [
            "",
            "{}",
            "f88d4d92",
            "{f88d4d926fcc-408d-9bef-9b7c89f15c89}",
            "{g88d4d92-6fcc-408d-9bef-9b7c89f15c89}",
            "{+88d4d92-6fcc-408d-9bef-9b7c89f15c89}",
        ] {
            assert_eq!(Guid::parse(bad), None, "{bad}");
        }
        let (a, b) = (Guid::random().unwrap(), Guid::random().unwrap());
        assert!(a != b && a != Guid::NIL);
    }
}
