//! Lists of bytes as lists of hexadecimal texts, for `#[serde(with)]`: a report is for people, too.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes each as one text.
pub(crate) fn serialize<S: Serializer>(all: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(all.iter().map(|bytes| {
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>()
    }))
}

/// Reads what [`serialize`] wrote.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let all = Vec::<String>::deserialize(from)?;
    all.iter()
        .map(|text| bytes(text).ok_or_else(|| Error::custom("expected hexadecimal digits")))
        .collect()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match *pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_bytes_are_read() {
        assert_eq!(bytes("00ffA9"), Some(vec![0, 255, 0xa9]));
        assert_eq!(bytes(""), Some(Vec::new()));
        for bad in ["0", "0g", "+1", "ää"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
