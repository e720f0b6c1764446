//! EFI_GUID (UEFI 2.10, appendix A): a 32-bit and two 16-bit numbers, little-endian, and eight bytes.

use std::fmt;
use std::str::FromStr;

/// A GUID as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

/// Where the bytes of the text stand in memory.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl fmt::Display for Guid {
    /// Lower case with dashes.
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

impl FromStr for Guid {
    type Err = ();

    /// 36 characters with dashes, in either case.
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_shaped = text.len() == 36
            && text.bytes().enumerate().all(|(at, b)| match at {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_hexdigit(),
            });
        if !is_shaped {
            return Err(());
        }
        let digits = text.replace('-', "");
        let mut guid = [0; 16];
        for (place, at) in ORDER.into_iter().enumerate() {
            let byte = digits.get(place * 2..place * 2 + 2).ok_or(())?;
            guid[at] = u8::from_str_radix(byte, 16).map_err(|_| ())?;
        }
        Ok(Self(guid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_mixed_endian_and_reads_back() {
        let text = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
        let guid: Guid = text.to_uppercase().parse().unwrap();
        assert_eq!(
            guid.0[..8],
            [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11]
        );
        assert_eq!(guid.to_string(), text);
        for bad in [
            "",
            "8be4df61",
            "8be4df61-93ca-11d2-aa0d-00e098032b8g",
            "äbe4df61-93ca-11d2-aa0d-00e098032b8",
        ] {
            assert!(bad.parse::<Guid>().is_err(), "{bad}");
        }
    }
}
