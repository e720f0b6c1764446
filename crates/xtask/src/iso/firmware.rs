//! Firmware files: just those that the chosen modules name in their `.modinfo` section.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};

use crate::debian::cpio::Node;
use crate::debian::say;
use crate::debian::tree::Picker;

/// Where the kernel looks.
const FOLDER: &str = "usr/lib/firmware";

/// Adds what the modules in the picker's tree name and the unpacked packages have.
pub(super) fn add(picker: &mut Picker) -> Result<()> {
    let mut wanted = BTreeSet::new();
    for (path, node) in &picker.tree {
        if let Node::File { data, .. } = node
            && path.ends_with(".ko")
        {
            wanted.extend(named(data).with_context(|| format!("reading {path}"))?);
        }
    }
    let mut missing = Vec::new();
    for name in &wanted {
        let path = format!("{FOLDER}/{name}");
        match picker.take(&path)? {
            Some(data) => {
                picker.tree.insert(path, Node::File { mode: 0o644, data });
            }
            None => missing.push(name.as_str()),
        }
    }
    say(&format!(
        "ISO: {} of the {} firmware files that its modules name",
        wanted.len() - missing.len(),
        wanted.len()
    ));
    Ok(())
}

/// Values of `firmware=` in a module; each entry of `.modinfo` ends with a zero.
fn named(module: &[u8]) -> Result<Vec<String>> {
    let file = ElfFile64::<object::Endianness>::parse(module).context("reading an ELF file")?;
    let Some(section) = file.section_by_name(".modinfo") else {
        return Ok(Vec::new());
    };
    let data = section.data().context("reading .modinfo")?;
    let names = data
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.strip_prefix(b"firmware="))
        .map(|name| String::from_utf8_lossy(name).into_owned())
        // A name with `..` would leave the folder; a pattern is none.
        .filter(|name| !name.contains("..") && !name.contains('*'));
    Ok(names.collect())
}
