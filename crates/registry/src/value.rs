//! Values and their types (winnt.h `REG_*`; MS-RRP 3.1.1.5).

/// Type of a value; one that Windows does not know is kept as its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub u32);

impl Kind {
    /// `REG_NONE`.
    pub const NONE: Self = Self(0);
    /// `REG_SZ`: UTF-16LE text, usually with a final NUL.
    pub const SZ: Self = Self(1);
    /// `REG_EXPAND_SZ`: text with `%VARIABLES%`.
    pub const EXPAND_SZ: Self = Self(2);
    /// `REG_BINARY`.
    pub const BINARY: Self = Self(3);
    /// `REG_DWORD`: 32 bits, little-endian.
    pub const DWORD: Self = Self(4);
    /// `REG_MULTI_SZ`: texts, each with a final NUL, and one more NUL.
    pub const MULTI_SZ: Self = Self(7);
    /// `REG_QWORD`: 64 bits, little-endian.
    pub const QWORD: Self = Self(11);
}

/// A value's type and data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Type.
    pub kind: Kind,
    /// Data as stored.
    pub data: Vec<u8>,
}

impl Value {
    /// `REG_SZ`.
    pub fn text(text: &str) -> Self {
        Self {
            kind: Kind::SZ,
            data: utf16(text),
        }
    }

    /// `REG_EXPAND_SZ`.
    pub fn expand(text: &str) -> Self {
        Self {
            kind: Kind::EXPAND_SZ,
            data: utf16(text),
        }
    }

    /// `REG_MULTI_SZ`.
    pub fn multi<S: AsRef<str>>(texts: &[S]) -> Self {
        let mut data: Vec<u8> = texts.iter().flat_map(|text| utf16(text.as_ref())).collect();
        data.extend([0, 0]);
        Self {
            kind: Kind::MULTI_SZ,
            data,
        }
    }

    /// `REG_DWORD`.
    pub fn dword(number: u32) -> Self {
        Self {
            kind: Kind::DWORD,
            data: number.to_le_bytes().to_vec(),
        }
    }

    /// `REG_QWORD`.
    pub fn qword(number: u64) -> Self {
        Self {
            kind: Kind::QWORD,
            data: number.to_le_bytes().to_vec(),
        }
    }

    /// `REG_BINARY`.
    pub fn binary(data: impl Into<Vec<u8>>) -> Self {
        Self {
            kind: Kind::BINARY,
            data: data.into(),
        }
    }

    /// The text of `REG_SZ` and `REG_EXPAND_SZ` up to its NUL; the first one of `REG_MULTI_SZ`.
    pub fn as_text(&self) -> Option<String> {
        matches!(self.kind, Kind::SZ | Kind::EXPAND_SZ | Kind::MULTI_SZ)
            .then(|| self.texts().into_iter().next().unwrap_or_default())
    }

    /// The texts of `REG_MULTI_SZ`; one text for `REG_SZ` and `REG_EXPAND_SZ`.
    pub fn as_multi(&self) -> Option<Vec<String>> {
        match self.kind {
            Kind::MULTI_SZ => Some(self.texts()),
            Kind::SZ | Kind::EXPAND_SZ => self.as_text().map(|text| vec![text]),
            _ => None,
        }
    }

    /// The number of `REG_DWORD`.
    pub fn as_u32(&self) -> Option<u32> {
        let bytes = self.data.first_chunk::<4>()?;
        (self.kind == Kind::DWORD).then(|| u32::from_le_bytes(*bytes))
    }

    /// The number of `REG_QWORD`.
    pub fn as_u64(&self) -> Option<u64> {
        let bytes = self.data.first_chunk::<8>()?;
        (self.kind == Kind::QWORD).then(|| u64::from_le_bytes(*bytes))
    }

    /// Texts up to the first empty one; the data need not end as it should.
    fn texts(&self) -> Vec<String> {
        let (pairs, _) = self.data.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        units
            .split(|unit| *unit == 0)
            .take_while(|text| !text.is_empty())
            .map(String::from_utf16_lossy)
            .collect()
    }
}

/// UTF-16LE with a final NUL.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back() {
        assert_eq!(Value::text("a\u{fc}").as_text().unwrap(), "a\u{fc}");
        assert_eq!(Value::multi(&["a", "bc"]).as_multi().unwrap(), ["a", "bc"]);
        assert_eq!(Value::dword(7).as_u32(), Some(7));
        let cut = Value {
            kind: Kind::SZ,
            data: vec![b'a', 0, b'b'],
        };
        assert_eq!(cut.as_text().unwrap(), "a");
        assert_eq!(Value::binary([1, 2, 3, 4]).as_u32(), None);
    }
}
