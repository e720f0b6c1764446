//! The text of a `.vmx`: lines `key = "value"`, as VMware's programs write them (facts: VMware Workstation 4
//! manual, "Virtual machine configuration"; sanbarrow.com, "syntax of the vmx-file").
//!
//! Keys mean the same in any case. `#` begins a comment line. A value stands in quotation marks; in it `|` and two
//! hexadecimal digits are one byte of the file's encoding, which the key `.encoding` names (any label of the WHATWG
//! encoding standard; VMware writes `UTF-8`, `windows-1252`, `Shift_JIS`, `GBK`, …). Bare values are taken too.
//! Refused: encrypted configurations, text that is none, and a device that is given two files.

use std::collections::BTreeMap;

use encoding_rs::Encoding;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::text;

/// Entries of one file. The largest real ones have about a thousand.
const MAX_ENTRIES: usize = 65_536;
/// Longest key. The longest of VMware have about 60 characters.
const MAX_KEY_BYTES: usize = 1024;
/// Warnings about single lines; a file of nonsense has as many as it has lines.
const MAX_LINE_WARNINGS: usize = 20;

/// The entries of a `.vmx`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vmx {
    /// By key in lower case.
    entries: BTreeMap<String, String>,
    /// What was odd about the text.
    pub(crate) warnings: Vec<String>,
}

impl Vmx {
    /// Reads the text of a file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut vmx = Self::default();
        let (text, encoding) = decode(bytes, &mut vmx.warnings)?;
        let mut odd_lines = 0;
        for (number, line) in (1u32..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = split(line) else {
                odd_lines += 1;
                if odd_lines <= MAX_LINE_WARNINGS {
                    let found = shown(line);
                    vmx.warnings.push(format!(
                        "line {number}: expected `key = \"value\"`, found `{found}`; ignoring it"
                    ));
                }
                continue;
            };
            vmx.insert(number, key, unescape(value, encoding))?;
        }
        if vmx.entries.is_empty() {
            return Err(Error::corrupt(
                "expected lines such as `displayName = \"name\"`, found none",
            ));
        }
        if vmx.entries.contains_key("encryption.keysafe")
            && vmx.entries.contains_key("encryption.data")
            && !vmx.entries.keys().any(|key| key.ends_with(".filename"))
        {
            return Err(Error::unsupported(
                "the machine's configuration is encrypted; hint: remove the encryption in VMware first",
            ));
        }
        Ok(vmx)
    }

    fn insert(&mut self, number: u32, key: &str, value: String) -> Result<()> {
        let key = key.to_ascii_lowercase();
        if self.entries.len() == MAX_ENTRIES || key.len() > MAX_KEY_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "line {number}: expected at most {MAX_ENTRIES} keys of at most {MAX_KEY_BYTES} bytes"
                ),
            ));
        }
        match self.entries.insert(key.clone(), value.clone()) {
            Some(before) if before != value && key.ends_with(".filename") => {
                Err(Error::corrupt(format!(
                    "line {number}: `{}` is `{}`, but an earlier line says `{}`",
                    shown(&key),
                    shown(&value),
                    shown(&before)
                )))
            }
            Some(before) if before != value => {
                let key = shown(&key);
                self.warnings.push(format!(
                    "line {number}: `{key}` is there twice; taking the last"
                ));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The value of a key, which is given in lower case; an empty value is as none.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let value = self.entries.get(key)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// `TRUE` or `FALSE`; VMware takes `yes`, `on`, `1` and their opposites as well.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?.to_ascii_lowercase();
        match value.as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    /// A whole number, where the key is there.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| {
            let value = shown(value);
            Error::corrupt(format!(
                "{key}: expected a whole number in range, found `{value}`"
            ))
        })
    }

    /// The devices of a kind: for `scsi` the parts before the first dot of `scsi0.present`, `scsi1:2.fileName`.
    pub(crate) fn devices(&self, kind: &str) -> Vec<Place> {
        let mut found: Vec<Place> = Vec::new();
        for key in self.entries.keys() {
            let front = key.split('.').next().unwrap_or_default();
            if let Some(place) = front.strip_prefix(kind).and_then(Place::parse)
                && !found.contains(&place)
            {
                found.push(place);
            }
        }
        found.sort_unstable();
        found
    }
}

/// `N` or `N:M` behind the kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) controller: u32,
    pub(crate) unit: Option<u32>,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        // Longer numbers are no device numbers, and would overflow the slots that are computed from them.
        let number = |text: &str| match text.len() {
            1..=4 if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        let (controller, unit) = match text.split_once(':') {
            Some((controller, unit)) => (controller, Some(number(unit)?)),
            None => (text, None),
        };
        Some(Self {
            controller: number(controller)?,
            unit,
        })
    }
}

/// Key and value of a line. What follows the closing quotation mark is no part of the value.
fn split(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || key.contains(char::is_whitespace) {
        return None;
    }
    let Some(quoted) = value.strip_prefix('"') else {
        return Some((key, value));
    };
    let (value, _) = quoted.split_once('"')?;
    Some((key, value))
}

/// Undoes `|XX`. Bytes that are no text of the encoding become U+FFFD.
fn unescape(value: &str, encoding: &'static Encoding) -> String {
    if !value.contains('|') {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len());
    let mut bytes = Vec::new();
    let mut rest = value;
    loop {
        let digits = rest.strip_prefix('|').and_then(|rest| rest.get(..2));
        let byte = digits
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte {
            bytes.push(byte);
            rest = rest.get(3..).unwrap_or_default();
            continue;
        }
        out.push_str(&encoding.decode_without_bom_handling(&bytes).0);
        bytes.clear();
        let mut chars = rest.chars();
        match chars.next() {
            Some(c) => out.push(c),
            None => return out,
        }
        rest = chars.as_str();
    }
}

/// The text by its byte order mark, by `.encoding`, as UTF-8 if it is that, else as windows-1252, in which every
/// byte means something.
fn decode(bytes: &[u8], warnings: &mut Vec<String>) -> Result<(String, &'static Encoding)> {
    if let [0xef, 0xbb, 0xbf, ..] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes {
        return Ok((text::decode(bytes)?, encoding_rs::UTF_8));
    }
    if bytes.contains(&0) {
        return Err(Error::corrupt(
            "expected the text of a .vmx, found binary data",
        ));
    }
    let stated = stated_encoding(bytes);
    let encoding = match &stated {
        Some(label) => Encoding::for_label(label).unwrap_or_else(|| {
            let label = shown(&String::from_utf8_lossy(label));
            warnings.push(format!(
                "`.encoding` is `{label}`, which is not known; taking UTF-8"
            ));
            encoding_rs::UTF_8
        }),
        None => encoding_rs::UTF_8,
    };
    let (text, bad) = encoding.decode_without_bom_handling(bytes);
    if !bad {
        return Ok((text.into_owned(), encoding));
    }
    if stated.is_some() {
        warnings.push(format!(
            "some bytes are no {}; taking windows-1252",
            encoding.name()
        ));
    }
    let (text, _) = encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes);
    Ok((text.into_owned(), encoding_rs::WINDOWS_1252))
}

/// The value of `.encoding`; the line is ASCII in every encoding that VMware writes.
fn stated_encoding(bytes: &[u8]) -> Option<Vec<u8>> {
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.take(MAX_ENTRIES).find_map(|line| {
        let line = str::from_utf8(line).ok()?;
        let (key, value) = split(line.trim())?;
        key.eq_ignore_ascii_case(".encoding")
            .then(|| value.as_bytes().to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vmx {
        Vmx::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn keys_have_no_case_and_values_have_quotes_and_escapes() {
        let vmx = parse(
            "#!/usr/bin/vmware\r\n# a = \"b\"\r\n\r\nDisplayName = \"a |22b|22 |7c c|\"\r\nmemSize=512\nempty = \"\"\nlow = \"x\" # y\n",
        );
        assert_eq!(vmx.get("displayname"), Some("a \"b\" | c|"));
        assert_eq!(vmx.number::<u64>("memsize").unwrap(), Some(512));
        assert_eq!((vmx.get("empty"), vmx.get("low")), (None, Some("x")));
        assert!(vmx.warnings.is_empty(), "{:?}", vmx.warnings);
    }

    #[test]
    fn the_stated_encoding_is_followed_and_a_wrong_one_survived() {
        for (bytes, name) in [
            (
                &b".encoding = \"windows-1252\"\nd = \"caf\xe9\"\n"[..],
                "café",
            ),
            (b".encoding = \"UTF-8\"\nd = \"caf\xc3\xa9\"\n", "café"),
            (b"d = \"caf\xe9\"\n", "café"),
            (b".encoding = \"UTF-8\"\nd = \"caf\xe9\"\n", "café"),
            (
                b".encoding = \"Shift_JIS\"\nd = \"\x83\x65\x83\x58\x83\x67\"\n",
                "テスト",
            ),
            (b".encoding = \"GBK\"\nd = \"|B2|E2|CA|D4\"\n", "测试"),
            (b".encoding = \"GBK\"\nd = \"\xb2\xe2\xca\xd4\"\n", "测试"),
            (b".encoding = \"EBCDIC-9\"\nd = \"x\"\n", "x"),
            (b"\xef\xbb\xbfd = \"\xc3\xa9\"\n", "é"),
        ] {
            assert_eq!(Vmx::parse(bytes).unwrap().get("d"), Some(name), "{bytes:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_or_warned_of() {
        for bad in [&b""[..], b"# only\n", b"\0\0\0", b"<xml/>", b"\xff\xfea"] {
            assert!(Vmx::parse(bad).is_err(), "{bad:?}");
        }
        let vmx = parse("a = \"1\"\nno value\nb = \"open\na b = \"c\"\na = \"2\"\n");
        assert_eq!(vmx.get("a"), Some("2"));
        assert_eq!(vmx.warnings.len(), 4, "{:?}", vmx.warnings);
        let twice = "scsi0:0.fileName = \"a.vmdk\"\nscsi0:0.filename = \"b.vmdk\"\n";
        assert_eq!(
            Vmx::parse(twice.as_bytes()).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        let sealed = "encryption.keySafe = \"x\"\nencryption.data = \"y\"\n";
        assert_eq!(
            Vmx::parse(sealed.as_bytes()).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }

    #[test]
    fn devices_are_sorted_by_number() {
        let vmx = parse(
            "scsi1:0.a=1\nscsi0:10.a=1\nscsi0:2.b=1\nscsi0.c=1\nscsix.d=1\nscsi99999:0.a=1\nscsi0:2.z=3",
        );
        let places: Vec<_> = vmx
            .devices("scsi")
            .iter()
            .map(|place| (place.controller, place.unit))
            .collect();
        assert_eq!(
            places,
            [(0, None), (0, Some(2)), (0, Some(10)), (1, Some(0))]
        );
    }
}
