//! From bytes to lines: encodings, comments, quotes, line continuation, `%strkey%` (Microsoft Learn, "General Syntax
//! Rules for INF Files").

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use crate::{Error, ErrorKind, Result};

/// Those of virtio-win have 2 to 40 KiB.
pub(crate) const INF_MAX: usize = 1 << 20;
/// "Each string … up to 4096 characters" (INF Strings Section).
const STRING_MAX: usize = 4096;
/// What all strings together may grow to when they are replaced, in bytes.
const EXPANDED_MAX: usize = 16 << 20;
/// SetupAPI: ERROR_SECTION_NAME_TOO_LONG.
const SECTION_NAME_MAX: usize = 255;
/// Ends a text file since CP/M.
const CONTROL_Z: char = '\u{1a}';

/// One line that is not empty, quotes removed, strings not replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RawLine {
    /// `[name]`, lower case.
    Section(String),
    /// What is before the first `=`, and the fields behind it.
    Entry(Option<String>, Vec<String>),
}

/// The text of a file: UTF-16 or UTF-8 by its byte order mark, else code page 1252.
pub(super) fn decode(bytes: &[u8]) -> Result<String> {
    if bytes.len() > INF_MAX {
        let message = format!("expected an .inf of at most {INF_MAX} bytes");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        // IsTextUnicode's guess for those without a mark.
        [1..=255, 0, ..] => utf16(bytes, u16::from_le_bytes),
        _ => bytes.iter().copied().map(code_page_1252).collect(),
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes
        .chunks_exact(2)
        .filter_map(|pair| pair.try_into().ok().map(unit));
    char::decode_utf16(units)
        .map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// Windows code page 1252 differs from Latin-1 in 0x80 to 0x9f; its five free places are controls there.
fn code_page_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    usize::from(byte)
        .checked_sub(0x80)
        .and_then(|at| HIGH.get(at).copied())
        .unwrap_or(char::from(byte))
}

/// Splits a file into lines.
pub(super) struct Lines<'a> {
    chars: Peekable<Chars<'a>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let text = text.split(CONTROL_Z).next().unwrap_or_default();
        Self {
            chars: text.chars().peekable(),
        }
    }

    fn section(&mut self) -> Result<RawLine> {
        let mut name = String::new();
        let mut quoted = false;
        loop {
            match self.chars.next_if(|&next| !is_end(next)) {
                Some(']') if !quoted => break,
                Some('"') => quoted = !quoted,
                Some(other) => name.push(other),
                None => {
                    return Err(Error::corrupt("expected a ] behind the name of a section"));
                }
            }
        }
        self.skip_line();
        let name = name.trim_matches(is_blank).to_lowercase();
        if name.chars().count() > SECTION_NAME_MAX {
            return Err(Error::corrupt("the name of a section is too long"));
        }
        Ok(RawLine::Section(name))
    }

    fn entry(&mut self) -> RawLine {
        let mut key = None;
        let mut fields = Vec::new();
        let mut field = Field::default();
        while let Some(next) = self.chars.next() {
            match next {
                '"' => self.quoted(&mut field),
                ',' => fields.push(std::mem::take(&mut field).text()),
                '=' if key.is_none() && fields.is_empty() => {
                    key = Some(std::mem::take(&mut field).text());
                }
                ';' => {
                    self.skip_line();
                    break;
                }
                '\\' if self.continues() => field.trim(),
                next if is_end(next) => break,
                next => field.push(next),
            }
        }
        if !(fields.is_empty() && field.is_empty()) {
            fields.push(field.text());
        }
        RawLine::Entry(key, fields)
    }

    /// A quoted string ends with its line at the latest; a doubled quote in it is one.
    fn quoted(&mut self, field: &mut Field) {
        field.start_quote();
        while let Some(next) = self.chars.next_if(|&next| !is_end(next)) {
            if next == '"' && self.chars.next_if_eq(&'"').is_none() {
                break;
            }
            field.text.push(next);
        }
        field.kept = field.text.len();
    }

    /// Behind a backslash: skips to the next line if this one has nothing more but blanks and a comment.
    fn continues(&mut self) -> bool {
        let mut ahead = self.chars.clone();
        while ahead.next_if(|&next| is_blank(next)).is_some() {}
        match ahead.peek() {
            Some(';') => while ahead.next_if(|&next| !is_end(next)).is_some() {},
            Some(&next) if !is_end(next) => return false,
            _ => {}
        }
        if ahead.next() == Some('\r') {
            ahead.next_if_eq(&'\n');
        }
        self.chars = ahead;
        true
    }

    fn skip_line(&mut self) {
        while self.chars.next_if(|&next| !is_end(next)).is_some() {}
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<RawLine>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.chars.peek()? {
                next if is_blank(next) || is_end(next) => drop(self.chars.next()),
                ';' => self.skip_line(),
                '[' => {
                    self.chars.next();
                    return Some(self.section());
                }
                _ => match self.entry() {
                    RawLine::Entry(None, fields) if fields.is_empty() => {}
                    entry => return Some(Ok(entry)),
                },
            }
        }
    }
}

/// A field as it grows: blanks around it do not count unless they are quoted.
#[derive(Default)]
struct Field {
    text: String,
    /// Bytes of it that were quoted, and all before them.
    kept: usize,
    quoted: bool,
}

impl Field {
    fn push(&mut self, next: char) {
        if !(is_blank(next) && self.is_empty()) {
            self.text.push(next);
        }
    }

    fn start_quote(&mut self) {
        self.quoted = true;
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty() && !self.quoted
    }

    fn trim(&mut self) {
        let end = self.text.trim_end_matches(is_blank).len();
        self.text.truncate(end.max(self.kept));
    }

    fn text(mut self) -> String {
        self.trim();
        self.text
    }
}

fn is_blank(next: char) -> bool {
    matches!(next, ' ' | '\t' | '\0' | '\u{b}' | '\u{c}' | '\u{a0}')
}

fn is_end(next: char) -> bool {
    matches!(next, '\n' | '\r')
}

/// What `%strkey%` stands for, and how much more of it may be put in.
#[derive(Debug)]
pub(super) struct Strings {
    table: HashMap<String, String>,
    left: usize,
}

impl Strings {
    pub(super) fn new() -> Self {
        Self {
            table: HashMap::new(),
            left: EXPANDED_MAX,
        }
    }

    /// The first definition counts.
    pub(super) fn define(&mut self, key: &str, value: &str) {
        let value = value.chars().take(STRING_MAX).collect();
        self.table.entry(key.to_lowercase()).or_insert(value);
    }

    /// Replaces `%strkey%`; `%%` is a percent sign, and what no string is defined for stays, as `%12%`.
    pub(super) fn replace(&mut self, text: String) -> Result<String> {
        if !text.contains('%') {
            return Ok(text);
        }
        let mut replaced = String::new();
        let mut rest = text.as_str();
        while let Some((before, behind)) = rest.split_once('%') {
            replaced.push_str(before);
            let Some((key, after)) = behind.split_once('%') else {
                replaced.push('%');
                rest = behind;
                break;
            };
            match self.table.get(&key.to_lowercase()) {
                _ if key.is_empty() => replaced.push('%'),
                Some(value) => {
                    let left = self.left.checked_sub(value.len());
                    self.left = left.ok_or_else(|| {
                        Error::new(ErrorKind::Limit, "the strings of an .inf grow too large")
                    })?;
                    replaced.push_str(value);
                }
                None => {
                    replaced.push('%');
                    replaced.push_str(key);
                    replaced.push('%');
                }
            }
            rest = after;
        }
        replaced.push_str(rest);
        Ok(replaced)
    }
}
