//! Names of keys and values: Latin-1 with one byte a letter, or UTF-16LE; compared without case.
//!
//! Windows compares UTF-16 units after `RtlUpcaseUnicodeChar`, a table that maps one unit to one unit. Unicode's simple
//! upper case is the same but for few letters: those that would become ASCII (dotless i, long s) and the micro sign stay
//! as they are in that table, and it lacks letters that Unicode gained later. Where such a letter is involved
//! ([`is_plain`](Name::is_plain) is false) nothing is refused because of order or hash.

use std::cmp::Ordering;

/// Most UTF-16 units of a key's name (Microsoft, "Registry element size limits").
pub(super) const MAX_KEY_NAME: usize = 255;
/// Most UTF-16 units of a value's name, same source.
pub(super) const MAX_VALUE_NAME: usize = 16_383;

/// A name as stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    /// Its bytes.
    pub(super) raw: &'a [u8],
    /// UTF-16LE, or else Latin-1.
    pub(super) wide: bool,
}

impl<'a> Name<'a> {
    /// UTF-16 units as they are.
    pub(super) fn units(self) -> impl Iterator<Item = u16> + 'a {
        let (pairs, _) = if self.wide {
            self.raw.as_chunks::<2>()
        } else {
            (&[][..], &[][..])
        };
        let narrow = if self.wide { &[][..] } else { self.raw };
        let wide = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
        narrow.iter().map(|byte| u16::from(*byte)).chain(wide)
    }

    /// Length in UTF-16 units.
    pub(super) fn len(self) -> usize {
        self.raw.len() / if self.wide { 2 } else { 1 }
    }

    /// Text; a lone surrogate becomes U+FFFD.
    pub(super) fn text(self) -> String {
        char::decode_utf16(self.units())
            .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    }

    /// Order without case.
    pub(super) fn order(self, other: Name<'_>) -> Ordering {
        if self.wide || other.wide {
            return self.units().map(upcase).cmp(other.units().map(upcase));
        }
        // Nearly all names: what is equal as it is needs no table.
        for (own, other) in self.raw.iter().zip(other.raw) {
            if own != other {
                let order = upcase_narrow(*own).cmp(&upcase_narrow(*other));
                if order.is_ne() {
                    return order;
                }
            }
        }
        self.raw.len().cmp(&other.raw.len())
    }

    /// Hash of `lh` lists.
    pub(super) fn hash(self) -> u32 {
        let add = |hash: u32, unit: u16| hash.wrapping_mul(37).wrapping_add(unit.into());
        if self.wide {
            return self.units().map(upcase).fold(0, add);
        }
        let mut hash = 0;
        for byte in self.raw {
            hash = add(hash, upcase_narrow(*byte));
        }
        hash
    }

    /// Hint of `lf` lists: the first four letters, or zeros where one is beyond Latin-1.
    pub(super) fn hint(self) -> [u8; 4] {
        let mut hint = [0; 4];
        for (place, unit) in hint.iter_mut().zip(self.units()) {
            match u8::try_from(unit) {
                Ok(letter) => *place = letter,
                Err(_) => return [0; 4],
            }
        }
        hint
    }

    /// True when Windows' upper case of every letter is surely known.
    pub(super) fn is_plain(self) -> bool {
        !self.wide
            || self.units().all(|unit| match unit {
                // ASCII, Latin-1, Latin Extended-A, Greek and Cyrillic without what was added later.
                0..0x130 | 0x132..0x17f | 0x391..0x3ce | 0x400..0x482 => true,
                // Letters that have no case anywhere.
                _ => char::from_u32(unit.into()).is_none_or(|letter| {
                    letter.to_uppercase().eq([letter]) && letter.to_lowercase().eq([letter])
                }),
            })
    }
}

/// A name to look for or to store: one byte a letter where that is enough, as Windows does.
#[derive(Clone, Debug)]
pub(super) struct OwnName {
    raw: Vec<u8>,
    wide: bool,
}

impl OwnName {
    pub(super) fn new(text: &str) -> Self {
        let narrow: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        match narrow {
            Ok(raw) => Self { raw, wide: false },
            Err(_) => Self {
                raw: text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
                wide: true,
            },
        }
    }

    pub(super) fn name(&self) -> Name<'_> {
        Name {
            raw: &self.raw,
            wide: self.wide,
        }
    }
}

/// Windows' upper case of a UTF-16 unit.
pub(super) fn upcase(unit: u16) -> u16 {
    match u8::try_from(unit) {
        Ok(byte) => upcase_narrow(byte),
        Err(_) => upcase_rare(unit),
    }
}

/// The same for Latin-1.
fn upcase_narrow(byte: u8) -> u16 {
    let unit = u16::from(byte);
    match byte {
        b'a'..=b'z' | 0xe0..=0xf6 | 0xf8..=0xfe => unit - 0x20,
        // y with diaeresis is the one whose upper case is beyond Latin-1.
        0xff => 0x178,
        _ => unit,
    }
}

fn upcase_rare(unit: u16) -> u16 {
    let Some(letter) = char::from_u32(unit.into()) else {
        return unit;
    };
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => match u16::try_from(u32::from(one)) {
            Ok(upper) if upper > 0x7f => upper,
            _ => unit,
        },
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_upcased_as_windows_does() {
        for (lower, upper) in [
            ('a', 'A'),
            ('ü', 'Ü'),
            ('ÿ', 'Ÿ'),
            ('µ', 'µ'),
            ('ß', 'ß'),
            ('÷', '÷'),
            ('ı', 'ı'),
            ('ſ', 'ſ'),
            ('ж', 'Ж'),
            ('ω', 'Ω'),
            ('中', '中'),
        ] {
            assert_eq!(upcase(lower as u16), upper as u16, "{lower}");
        }
        assert_eq!(upcase(0xd83d), 0xd83d);
    }

    #[test]
    fn names_are_narrow_where_they_can_be() {
        let name = OwnName::new("Grün");
        assert_eq!((name.name().raw.len(), name.name().wide), (4, false));
        assert_eq!(name.name().text(), "Grün");
        assert_eq!(name.name().hint(), *b"Gr\xfcn");
        let wide = OwnName::new("Журнал");
        assert_eq!((wide.name().len(), wide.name().wide), (6, true));
        assert_eq!(wide.name().text(), "Журнал");
        assert_eq!(wide.name().hint(), [0; 4]);
        assert!(wide.name().is_plain());
        assert!(!OwnName::new("\u{10d0}").name().is_plain());
    }

    #[test]
    fn the_hash_is_that_of_a_real_hive() {
        // Windows 7's SYSTEM: the list of its root key.
        assert_eq!(
            OwnName::new("Select").name().hash(),
            OwnName::new("SELECT").name().hash()
        );
        assert_eq!(OwnName::new("ab").name().hash(), 0x41 * 37 + 0x42);
    }
}
