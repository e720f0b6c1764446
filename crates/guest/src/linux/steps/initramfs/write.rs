//! Writes the planned initramfs files: with the original kept beside it, or in place where there is no room for two.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use sha1::{Digest, Sha1};

use crate::linux::convert::Context;
use crate::linux::initrd::compress::{Effort, initrd_error, pack_to, unpack};
use crate::recorder::hex;
use crate::root::INITRD_MAX;
use crate::{Error, Result};

use super::{Plan, Way};

/// An appended archive starts at a multiple of this.
pub(super) const ALIGN: u64 = 4;
/// Ending of the name under which the original is kept, as virt-v2v has it.
const KEPT: &str = ".pre-v2v";

/// True when the original was kept before.
pub(super) fn has_backup(context: &Context<'_>, plan: &Plan) -> bool {
    context
        .root
        .link_meta(&format!("{}{KEPT}", plan.initrd))
        .is_ok()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let plans = std::mem::take(&mut context.initramfs);
    for plan in plans.iter().filter(|plan| plan.has_work()) {
        let before = context.recorder.hash(&plan.initrd)?;
        match &plan.way {
            Way::Keep => write_beside(context, plan)?,
            Way::Replace => {
                let source = context.root.open_file(&plan.initrd)?;
                let fill = |file: &mut File| fill(file, source, plan);
                context.root.replace(&plan.initrd, 0o600, fill)?;
            }
            Way::Append => append_in_place(context, plan)?,
            Way::Shrink(new) => write_over(context, plan, new)?,
        }
        let after = context.recorder.hash(&plan.initrd)?;
        context
            .recorder
            .record(&plan.initrd, Some(before), Some(after), &plan.why);
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
    context
        .recorder
        .record(&kept, None, Some(hash), "the original initramfs");
    Ok(())
}

fn append_in_place(context: &Context<'_>, plan: &Plan) -> Result<()> {
    let mut file = context.root.open_append(&plan.initrd)?;
    let failed = |error| Error::io("appending to the initramfs", error).at(&plan.initrd);
    if file.metadata().map_err(failed)?.len() != plan.len {
        // Another name of the same file: a hard link was appended to already.
        return Ok(());
    }
    let done = pad(&mut file, plan.len)
        .and_then(|()| file.write_all(&plan.archive))
        .and_then(|()| file.sync_all());
    done.map_err(|error| {
        // Back to what it was; if that fails too, the first error is still the one to tell.
        let _ = file.set_len(plan.len);
        failed(error)
    })
}

/// Over the old content, where there is no room for both; the old content is put back when that fails.
fn write_over(context: &Context<'_>, plan: &Plan, new: &[u8]) -> Result<()> {
    let old = context.root.read(&plan.initrd, INITRD_MAX)?;
    let write = |content: &[u8]| {
        let file = context.root.open_append(&plan.initrd)?;
        file.set_len(0)
            .and_then(|()| (&file).write_all(content))
            .and_then(|()| file.sync_all())
            .map_err(|error| Error::io("writing the initramfs", error).at(&plan.initrd))
    };
    write(new).inspect_err(|_| {
        if let Err(error) = write(&old) {
            tracing::error!("putting the initramfs back: {}", error.chain());
        }
    })
}

fn fill(to: &mut File, mut source: File, plan: &Plan) -> io::Result<()> {
    let len = if plan.repacks() {
        repack(to, source, plan)?
    } else {
        io::copy(&mut source, to)?
    };
    pad(to, len)?;
    to.write_all(&plan.archive)
}

/// Copies the parts as they are, but those that nothing may follow packed anew.
fn repack(to: &mut File, source: File, plan: &Plan) -> io::Result<u64> {
    let mut reader = BufReader::new(source);
    for (index, segment) in plan.segments.iter().enumerate() {
        let at = to.stream_position()?;
        pad(to, at)?;
        reader.seek(SeekFrom::Start(segment.offset))?;
        if segment.compression.must_be_last() {
            pack_to(plan.packing, Effort::Normal, &mut *to, &mut |packed| {
                unpack(segment.compression, &mut reader, &mut |data| {
                    io::copy(data, packed).map(|_| ())
                })
            })?;
        } else {
            let end = plan
                .segments
                .get(index + 1)
                .map_or(plan.len, |next| next.offset);
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
    let is_sum = noted
        .split_whitespace()
        .next()
        .is_some_and(|sum| sum.len() == 40 && sum.bytes().all(|b| b.is_ascii_hexdigit()));
    if !is_sum {
        return Ok(());
    }
    let mut file = context.root.open_file(&plan.initrd)?;
    let mut hasher = Sha1::new();
    io::copy(&mut file, &mut hasher).map_err(|error| initrd_error(&plan.initrd, error))?;
    let sum = hex(&hasher.finalize());
    let rest = noted
        .split_once(char::is_whitespace)
        .map_or("", |(_, rest)| rest);
    let text = format!("{sum} {rest}");
    context.recorder.write(
        &path,
        text.as_bytes(),
        "update-initramfs refuses to rebuild a file that it believes altered",
    )?;
    Ok(())
}
