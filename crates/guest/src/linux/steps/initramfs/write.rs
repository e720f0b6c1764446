//! Writes the planned initramfs files: with the original kept beside it, or in place where there is no room for two.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use sha1::{Digest, Sha1};

use crate::linux::convert::Context;
use crate::linux::initrd::compress::{initrd_error, unpack};
use crate::linux::initrd::{Compression, Segment};
use crate::recorder::hex;
use crate::root::split;
use crate::{Error, ErrorKind, Result};

use super::Plan;

/// An appended archive starts at a multiple of this.
const ALIGN: u64 = 4;
/// Left free on the file system.
const SLACK: u64 = 1 << 20;
/// Ending of the name under which the original is kept, as virt-v2v has it.
const KEPT: &str = ".pre-v2v";

/// Decides for each file system whether originals can be kept, and refuses where not even the new files fit.
pub(super) fn decide_space(context: &mut Context<'_>) -> Result<()> {
    let mut by_fs: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, plan) in context.initramfs.iter().enumerate().filter(|(_, plan)| plan.has_work()) {
        by_fs.entry(context.root.meta(&plan.initrd)?.dev).or_default().push(index);
    }
    for indexes in by_fs.into_values() {
        let plans = || indexes.iter().filter_map(|index| context.initramfs.get(*index));
        let Some(first) = plans().next() else { continue };
        let dir = split(&first.initrd)?.0.to_owned();
        let free = context.root.free_bytes(if dir.is_empty() { "/" } else { &dir })?;
        let kept: u64 = plans().filter(|plan| !has_backup(context, plan)).map(new_len).sum();
        let again: u64 = plans().filter(|plan| has_backup(context, plan)).map(new_len).sum();
        let lean: u64 = plans().map(|plan| plan.archive.len() as u64 + ALIGN).sum();
        let repacked = plans().filter(|plan| !plan.repack.is_empty()).map(new_len).max().unwrap_or(0);
        if free >= kept + again + SLACK {
            for index in indexes {
                if let Some(plan) = context.initramfs.get_mut(index) {
                    plan.keep = true;
                }
            }
        } else if free < lean + repacked + SLACK {
            let message = format!(
                "expected {} KiB free for the drivers of {} kernels ({} KiB to keep the originals too), found {} KiB; \
                 remove old kernels in the guest",
                (lean + repacked + SLACK) >> 10,
                indexes.len(),
                (kept + again + SLACK) >> 10,
                free >> 10
            );
            return Err(Error::new(ErrorKind::NoSpace, message).at(dir));
        } else {
            context.recorder.warn(format!("{dir} has too little room to keep the original initramfs files"));
        }
    }
    Ok(())
}

fn has_backup(context: &Context<'_>, plan: &Plan) -> bool {
    context.root.link_meta(&format!("{}{KEPT}", plan.initrd)).is_ok()
}

/// Bound of the new file's length; gzip of what LZ4 packed is smaller than that.
fn new_len(plan: &Plan) -> u64 {
    plan.len + ALIGN + plan.archive.len() as u64 + if plan.repack.is_empty() { 0 } else { plan.len / 10 }
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let plans = std::mem::take(&mut context.initramfs);
    for plan in plans.iter().filter(|plan| plan.has_work()) {
        let before = context.recorder.hash(&plan.initrd)?;
        if plan.keep {
            write_beside(context, plan)?;
        } else if plan.repack.is_empty() {
            append_in_place(context, plan)?;
        } else {
            let source = context.root.open_file(&plan.initrd)?;
            context.root.replace(&plan.initrd, 0o600, |file| fill(file, source, plan))?;
        }
        let after = context.recorder.hash(&plan.initrd)?;
        context.recorder.record(&plan.initrd, Some(before), Some(after), &plan.why);
        initramfs_tools_sum(context, plan)?;
    }
    context.initramfs = plans;
    Ok(())
}

/// The new file under another name, then two renames: the old one is complete until the new one is.
fn write_beside(context: &mut Context<'_>, plan: &Plan) -> Result<()> {
    let root = context.root;
    let source = root.open_file(&plan.initrd)?;
    let kept = format!("{}{KEPT}", plan.initrd);
    if has_backup(context, plan) {
        // The first original is the one worth keeping.
        return root.replace(&plan.initrd, 0o600, |file| fill(file, source, plan));
    }
    let new = format!("{}.v2v-new", plan.initrd);
    root.replace_like(&new, &plan.initrd, 0o600, |file| fill(file, source, plan))?;
    root.rename(&plan.initrd, &kept)?;
    root.rename(&new, &plan.initrd)?;
    let hash = context.recorder.hash(&kept)?;
    context.recorder.record(&kept, None, Some(hash), "the original initramfs");
    Ok(())
}

fn append_in_place(context: &Context<'_>, plan: &Plan) -> Result<()> {
    let mut file = context.root.open_append(&plan.initrd)?;
    let done = pad(&mut file, plan.len).and_then(|()| file.write_all(&plan.archive)).and_then(|()| file.sync_all());
    done.map_err(|error| {
        // Back to what it was; if that fails too, the first error is still the one to tell.
        let _ = file.set_len(plan.len);
        Error::io("appending to the initramfs", error).at(&plan.initrd)
    })
}

fn fill(to: &mut File, mut source: File, plan: &Plan) -> io::Result<()> {
    let len = if plan.repack.is_empty() { io::copy(&mut source, to)? } else { repack(to, source, plan)? };
    pad(to, len)?;
    to.write_all(&plan.archive)
}

/// Copies the parts as they are, but LZ4 ones as gzip.
fn repack(to: &mut File, source: File, plan: &Plan) -> io::Result<u64> {
    let mut reader = BufReader::new(source);
    for (index, segment) in plan.repack.iter().enumerate() {
        let at = to.stream_position()?;
        pad(to, at)?;
        reader.seek(SeekFrom::Start(segment.offset))?;
        if segment.compression == Compression::Lz4 {
            // Level 1: smaller than LZ4 already, and fast.
            let mut encoder = flate2::write::GzEncoder::new(&mut *to, flate2::Compression::new(1));
            unpack(segment.compression, &mut reader, &mut |data| io::copy(data, &mut encoder).map(|_| ()))?;
            encoder.finish()?;
        } else {
            let end = plan.repack.get(index + 1).map_or(plan.len, |next: &Segment| next.offset);
            io::copy(&mut reader.by_ref().take(end - segment.offset), to)?;
        }
    }
    to.stream_position()
}

fn pad(to: &mut File, len: u64) -> io::Result<()> {
    let zeroes = [0u8; 4];
    let missing = usize::try_from(len.next_multiple_of(ALIGN) - len).unwrap_or(0);
    to.write_all(zeroes.get(..missing).unwrap_or_default())
}

/// initramfs-tools before 0.121 refuses to rebuild a file whose SHA-1 is not the one that it noted
/// (/var/lib/initramfs-tools/KVER: sum, two blanks, path).
fn initramfs_tools_sum(context: &mut Context<'_>, plan: &Plan) -> Result<()> {
    let path = format!("/var/lib/initramfs-tools/{}", plan.kver);
    let noted = context.root.text(&path).unwrap_or_default();
    let is_sum = noted.split_whitespace().next().is_some_and(|sum| sum.len() == 40 && sum.bytes().all(|b| b.is_ascii_hexdigit()));
    if !is_sum {
        return Ok(());
    }
    let mut file = context.root.open_file(&plan.initrd)?;
    let mut hasher = Sha1::new();
    io::copy(&mut file, &mut hasher).map_err(|error| initrd_error(&plan.initrd, error))?;
    let sum = hex(&hasher.finalize());
    let rest = noted.split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
    let text = format!("{sum} {rest}");
    context.recorder.write(&path, text.as_bytes(), "update-initramfs refuses to rebuild a file that it believes altered")?;
    Ok(())
}
