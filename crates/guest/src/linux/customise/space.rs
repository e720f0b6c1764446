//! Whether what is to be copied in fits, asked before the first change.

use std::collections::BTreeMap;

use types::Customise;

use super::files;
use crate::linux::convert::Context;
use crate::root::split;
use crate::{Error, ErrorKind, Result, Root};

/// Blocks, inodes and journals take some more than the content.
const OVERHEAD: u64 = 8 << 10;
/// What the conversion itself needs in the root file system.
const RESERVE: u64 = 4 << 20;

pub(super) fn check(context: &Context<'_>) -> Result<()> {
    let root = context.root;
    // By file system: a directory on it, bytes.
    let mut needs: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    let mut need = |path: &str, bytes: u64| -> Result<()> {
        let dir = nearest_dir(root, path);
        let dev = root.meta(&dir)?.dev;
        let entry = needs.entry(dev).or_insert((dir, 0));
        entry.1 = entry.1.saturating_add(bytes);
        Ok(())
    };
    for change in &context.options.customise {
        match change {
            Customise::Upload { payload, to } => {
                let path = files::upload_path(root, payload, to).unwrap_or_else(|_| to.clone());
                need(&path, tree_bytes(context, payload))?;
            }
            Customise::CopyIn { payload, to } => need(to, tree_bytes(context, payload))?,
            Customise::Write { path, content } => need(path, content.len() as u64 + OVERHEAD)?,
            _ => {}
        }
    }
    if let Some(member) = &context.options.qemu_ga {
        need("/var/lib", tree_bytes(context, member))?;
    }
    for (dir, bytes) in needs.into_values() {
        let free = root.free_bytes(&dir)?;
        if bytes.saturating_add(RESERVE) > free {
            let message = format!(
                "expected {} KiB free in the guest's file system for what is to be copied in, found {}",
                bytes.saturating_add(RESERVE).div_ceil(1 << 10),
                free >> 10
            );
            return Err(Error::new(ErrorKind::NoSpace, message).at(dir));
        }
    }
    Ok(())
}

fn tree_bytes(context: &Context<'_>, member: &str) -> u64 {
    context
        .payload
        .tree(member)
        .fold(0, |sum: u64, (_, member)| {
            sum.saturating_add(member.len).saturating_add(OVERHEAD)
        })
}

/// The directory that is there and will hold `path`.
fn nearest_dir(root: &Root, path: &str) -> String {
    let mut at = path.to_owned();
    while !root.is_dir(&at) {
        match split(&at) {
            Ok((dir, _)) if !dir.is_empty() => at = dir.to_owned(),
            _ => return "/".to_owned(),
        }
    }
    at
}
