//! How much of an image is allocated beforehand, and other values of `-o KEY=VALUE`.

use crate::{Error, ErrorKind, Preallocation, Result};

/// What is allocated before the first write: `preallocation=` of qemu-img.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// `off`: nothing.
    #[default]
    Off,
    /// `metadata`: every place is mapped, none is taken; for formats that have metadata.
    Metadata,
    /// `falloc`: all blocks are taken, unwritten.
    Falloc,
    /// `full`: all blocks are written.
    Full,
}

impl Allocation {
    /// The value of a word, if it is one.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "off" => Some(Self::Off),
            "metadata" => Some(Self::Metadata),
            "falloc" => Some(Self::Falloc),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

impl From<Preallocation> for Allocation {
    fn from(preallocation: Preallocation) -> Self {
        match preallocation {
            Preallocation::Sparse => Self::Off,
            Preallocation::Falloc => Self::Falloc,
        }
    }
}

/// What `-o KEY=VALUE` says for a raw image.
pub(in crate::formats) fn parse_options(pairs: &[(String, String)]) -> Result<Allocation> {
    let mut allocation = Allocation::Off;
    for (key, value) in pairs {
        if key != "preallocation" {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the output format raw has no option `{key}`"),
            ));
        }
        allocation = Allocation::parse(value)
            .filter(|&how| how != Allocation::Metadata)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    format!("expected off, falloc or full for the option `{key}`, found `{value}`"),
                )
            })?;
    }
    Ok(allocation)
}

/// `on` or `off`, as qemu-img takes them.
pub(in crate::formats) fn is_on(word: &str) -> Option<bool> {
    match word {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => None,
    }
}

/// A number of bytes with an optional suffix of powers of 1024.
pub(in crate::formats) fn parse_size(word: &str) -> Option<u64> {
    let (digits, shift) = match word.char_indices().next_back()? {
        (at, 'b' | 'B') => (&word[..at], 0),
        (at, 'k' | 'K') => (&word[..at], 10),
        (at, 'm' | 'M') => (&word[..at], 20),
        (at, 'g' | 'G') => (&word[..at], 30),
        (at, 't' | 'T') => (&word[..at], 40),
        _ => (word, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_suffixes_of_qemu_img() {
        for (word, size) in [
            ("512", Some(512)),
            ("64k", Some(65536)),
            ("2M", Some(2 << 20)),
            ("1b", Some(1)),
            ("16777216T", None),
            ("k", None),
            ("", None),
            ("-1", None),
            ("6é", None),
        ] {
            assert_eq!(parse_size(word), size, "{word}");
        }
    }
}
