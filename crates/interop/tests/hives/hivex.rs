//! hivexregedit of libwin-hivex-perl: it exports a hive as text, without reading logs.

use std::path::Path;

use testkit::cmd;

use crate::tree::{Tree, Values};

/// Reads a hive through `hivexregedit --export`.
pub(crate) fn read(hive: &Path) -> Tree {
    let mut command = cmd::command("hivexregedit", ["--export"]);
    let text = cmd::output(command.arg(hive).arg("\\")).unwrap();
    let mut tree = Tree::new();
    let mut key: Option<(String, Values)> = None;
    // The first line is the title.
    for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
        if let Some(path) = line
            .strip_prefix("[\\")
            .and_then(|line| line.strip_suffix(']'))
        {
            tree.extend(key.replace((path.to_owned(), Values::new())));
        } else {
            let (name, data) = value(line).unwrap_or_else(|| panic!("a strange line: {line}"));
            key.as_mut().unwrap().1.insert(name, data);
        }
    }
    tree.extend(key);
    tree
}

/// `"name"=hex(1):41,00` or `@=dword:00000001`.
fn value(line: &str) -> Option<(String, (u32, Vec<u8>))> {
    let (name, data) = match line.strip_prefix("@=") {
        Some(data) => (String::new(), data),
        None => quoted(line.strip_prefix('"')?)?,
    };
    if let Some(number) = data.strip_prefix("dword:") {
        let number = u32::from_str_radix(number, 16).ok()?;
        return Some((name, (4, number.to_le_bytes().to_vec())));
    }
    let (kind, bytes) = data.strip_prefix("hex(")?.split_once("):")?;
    let bytes = bytes.split(',').filter(|byte| !byte.is_empty());
    let bytes: Result<Vec<u8>, _> = bytes.map(|byte| u8::from_str_radix(byte, 16)).collect();
    Some((name, (u32::from_str_radix(kind, 16).ok()?, bytes.ok()?)))
}

/// The text up to the quote that ends it, backslashes undone, and what is behind `"=`.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '"' => return Some((name, text.get(at..)?.strip_prefix("\"=")?)),
            c => name.push(c),
        }
    }
    None
}
