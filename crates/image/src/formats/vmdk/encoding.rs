//! Character sets of descriptors. A descriptor states the set in `encoding=`; names in it are the names of files, so
//! they must be decoded right, or be tried in every way that they can be meant.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use crate::formats::context::Context;
use crate::{ErrorKind, FileRange, Reference, Result};

/// A name as it is written, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    bytes: Vec<u8>,
    text: String,
}

impl Name {
    /// A name of these bytes in a text of this character set.
    pub(super) fn new(bytes: &[u8], encoding: &'static Encoding) -> Self {
        Self {
            bytes: bytes.to_vec(),
            text: decode(bytes, encoding),
        }
    }

    /// The name as it is written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The file that is meant: by its decoded name, by the same bytes taken for UTF-8 (the statement outlives a tool
    /// that rewrites the text), and by the bare bytes (an archive keeps them as they were).
    pub(super) fn find(&self, child: &FileRange, context: &Context) -> Result<FileRange> {
        let first = match context.find(child, Reference::Foreign(&self.text)) {
            Err(error) if error.kind() == ErrorKind::Missing && !self.bytes.is_ascii() => error,
            found => return found,
        };
        if let Ok(text) = std::str::from_utf8(&self.bytes)
            && text != self.text
            && let Ok(found) = context.find(child, Reference::Foreign(text))
        {
            return Ok(found);
        }
        let last = self
            .bytes
            .rsplit(|byte| matches!(byte, b'/' | b'\\'))
            .next();
        match context.find(
            child,
            Reference::Host(OsStr::from_bytes(last.unwrap_or_default())),
        ) {
            Ok(found) => Ok(found),
            Err(_) => Err(first),
        }
    }
}

/// The character set that the `encoding` key names. Without one, and with one that is not known, bytes that are
/// UTF-8 are taken for that, others for the set of Western Windows, where most of such files come from.
pub(super) fn of(label: Option<&str>, text: &[u8]) -> &'static Encoding {
    let by_content = || match std::str::from_utf8(text) {
        Ok(_) => UTF_8,
        Err(_) => WINDOWS_1252,
    };
    match label {
        None => by_content(),
        Some(label) => named(label).unwrap_or_else(|| {
            tracing::warn!(label, "the descriptor's character set is not known");
            by_content()
        }),
    }
}

/// Names that VMware writes are IANA's as ICU spells them; some lack a hyphen, some are code pages.
fn named(label: &str) -> Option<&'static Encoding> {
    let by_label = |label: &str| Encoding::for_label(label.as_bytes());
    let lower = label.to_ascii_lowercase().replace('_', "-");
    let digits = lower.trim_start_matches(|c: char| !c.is_ascii_digit());
    by_label(&lower).or_else(|| match digits {
        "932" => by_label("shift_jis"),
        "936" => by_label("gbk"),
        "949" => by_label("euc-kr"),
        "950" => by_label("big5"),
        "65001" => Some(UTF_8),
        digits => by_label(&format!("windows-{digits}")),
    })
}

/// The text; what is no character of the set is replaced.
pub(super) fn decode(bytes: &[u8], encoding: &'static Encoding) -> String {
    encoding.decode_without_bom_handling(bytes).0.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_known_by_their_many_names() {
        for (label, name) in [
            ("UTF-8", "UTF-8"),
            ("windows-1252", "windows-1252"),
            ("Shift_JIS", "Shift_JIS"),
            ("windows-31j", "Shift_JIS"),
            ("GBK", "GBK"),
            ("Big5", "Big5"),
            ("EUC-KR", "EUC-KR"),
            ("windows-1251", "windows-1251"),
            ("cp1250", "windows-1250"),
            ("cp932", "Shift_JIS"),
            ("ibm-936", "GBK"),
        ] {
            assert_eq!(named(label).map(Encoding::name), Some(name), "{label}");
        }
        assert_eq!(named("klingon"), None);
        assert_eq!(of(None, "ü".as_bytes()), UTF_8);
        assert_eq!(of(None, b"\xfc"), WINDOWS_1252);
        assert_eq!(of(Some("klingon"), b"\xfc"), WINDOWS_1252);
    }
}
