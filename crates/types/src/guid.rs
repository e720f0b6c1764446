//! GUIDs as Windows and UEFI store and write them.

use std::fmt;
use std::str::FromStr;

/// A GUID as it is stored: a 32-bit and two 16-bit numbers, little-endian, and eight bytes (UEFI 2.10, appendix A).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

/// Where the bytes of the text are stored.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl Guid {
    /// All zero: none.
    pub const NIL: Self = Self([0; 16]);

    /// The GUID whose digits are those of `digits`, most significant first.
    pub const fn of(digits: u128) -> Self {
        let big = digits.to_be_bytes();
        let mut bytes = [0; 16];
        let mut i = 0;
        while i < 16 {
            bytes[ORDER[i]] = big[i];
            i += 1;
        }
        Self(bytes)
    }

    /// True for the text of a GUID in braces, as the Windows registry has it.
    pub fn is_braced(text: &str) -> bool {
        text.starts_with('{') && text.parse::<Self>().is_ok()
    }
}

/// Lower case with dashes, without braces.
impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, at) in ORDER.into_iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[at])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is none of a GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a GUID: 8-4-4-4-12 hexadecimal digits")]
pub struct GuidParseError;

impl FromStr for Guid {
    type Err = GuidParseError;

    /// In either case, with braces or without.
    fn from_str(text: &str) -> Result<Self, GuidParseError> {
        let inner = text
            .strip_prefix('{')
            .map_or(Some(text), |rest| rest.strip_suffix('}'));
        let inner = inner.ok_or(GuidParseError)?;
        let lens = inner.split('-').map(str::len);
        let digits = inner.replace('-', "");
        // from_str_radix takes a sign.
        if !lens.eq([8, 4, 4, 4, 12]) || digits.starts_with('+') {
            return Err(GuidParseError);
        }
        let digits = u128::from_str_radix(&digits, 16).map_err(|_| GuidParseError)?;
        Ok(Self::of(digits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_those_of_windows_and_uefi() {
        let text = "{F88D4D92-6fcc-408d-9bef-9b7c89f15c89}";
        let guid: Guid = text.parse().unwrap();
        assert_eq!(
            guid.0,
            *b"\x92\x4d\x8d\xf8\xcc\x6f\x8d\x40\x9b\xef\x9b\x7c\x89\xf1\x5c\x89"
        );
        assert_eq!(guid.to_string(), "f88d4d92-6fcc-408d-9bef-9b7c89f15c89");
        assert_eq!(guid.to_string().parse(), Ok(guid));
        assert_eq!(Guid::of(0xf88d4d92_6fcc_408d_9bef_9b7c89f15c89), guid);
        assert!(Guid::is_braced(text) && !Guid::is_braced(&guid.to_string()));
        for bad in [
            "",
            "{}",
            "{",
            "f88d4d92",
            "{f88d4d92-6fcc-408d-9bef-9b7c89f15c89",
            "f88d4d92-6fcc-408d-9bef-9b7c89f15c89}",
            "{f88d4d926fcc-408d-9bef-9b7c89f15c89}",
            "{g88d4d92-6fcc-408d-9bef-9b7c89f15c89}",
            "{+88d4d92-6fcc-408d-9bef-9b7c89f15c89}",
            "äbe4df61-93ca-11d2-aa0d-00e098032b8",
        ] {
            assert_eq!(bad.parse::<Guid>(), Err(GuidParseError), "{bad}");
        }
    }
}
