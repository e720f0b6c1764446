//! Room for the new initramfs files, on each file system by itself. In turn: with the originals kept beside them; each
//! written beside the old one and renamed over it; appended in place; packed harder. What fits nowhere is refused before
//! anything is touched.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::linux::convert::Context;
use crate::linux::initrd::Compression;
use crate::linux::initrd::compress::{Effort, initrd_error, pack_to, unpack};
use crate::linux::kernels::compare_versions;
use crate::root::split;
use crate::{Error, ErrorKind, Result};

use super::write::{ALIGN, has_backup};
use super::{Plan, Way};

/// Left free on the file system.
const SLACK: u64 = 1 << 20;
/// An initramfs that is packed harder is held in memory.
const SHRINK_MAX: u64 = 256 << 20;
/// Programs and modules pack to a third or a quarter.
const UNPACKED_TIMES: u64 = 6;

/// Decides how each is written, and refuses where not even the new files fit.
pub(super) fn decide(context: &mut Context<'_>) -> Result<()> {
    let mut by_fs: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, plan) in context.initramfs.iter().enumerate() {
        if plan.has_work() {
            let dev = context.root.meta(&plan.initrd)?.dev;
            by_fs.entry(dev).or_default().push(index);
        }
    }
    for indexes in by_fs.into_values() {
        decide_one(context, &indexes)?;
    }
    Ok(())
}

/// Bytes that the ways take on one file system.
struct Need {
    /// All originals kept.
    keep: u64,
    /// Old and new of one after the other.
    replace: u64,
    /// Only what is appended.
    append: u64,
}

fn need(context: &Context<'_>, plans: &[&Plan]) -> Need {
    let growth = |plan: &Plan| new_len(plan).saturating_sub(plan.len);
    let mut need = Need {
        keep: 0,
        replace: 0,
        append: plans.iter().map(|plan| growth(plan)).sum(),
    };
    let mut grown = 0;
    for plan in plans {
        need.keep += new_len(plan);
        need.replace = need.replace.max(grown + new_len(plan));
        grown += growth(plan);
    }
    // A file whose original is kept already needs room for itself only while it is written.
    if plans.iter().all(|plan| has_backup(context, plan)) {
        need.keep = need.replace;
    }
    need
}

fn decide_one(context: &mut Context<'_>, indexes: &[usize]) -> Result<()> {
    let plans: Vec<&Plan> = indexes
        .iter()
        .filter_map(|index| context.initramfs.get(*index))
        .collect();
    let Some(first) = plans.first() else {
        return Ok(());
    };
    let dir = match split(&first.initrd)?.0 {
        "" => "/".to_owned(),
        dir => dir.to_owned(),
    };
    let free = context.root.free_bytes(&dir)?.saturating_sub(SLACK);
    let need = need(context, &plans);
    if free >= need.keep {
        return Ok(());
    }
    let repacks = plans.iter().any(|plan| plan.repacks());
    let way = if free >= need.replace {
        Way::Replace
    } else if free >= need.append && !repacks {
        Way::Append
    } else {
        let shrunk = shrink(context, indexes, free)?;
        return match shrunk {
            Some(shrunk) => {
                warn(context, &dir, "and they are packed harder");
                take(context, indexes, shrunk);
                Ok(())
            }
            None => Err(refusal(context, &dir, indexes.len(), &need, free)),
        };
    };
    warn(context, &dir, "only the new ones are there");
    let ways = indexes.iter().map(|_| way.clone()).collect();
    take(context, indexes, ways);
    Ok(())
}

fn warn(context: &mut Context<'_>, dir: &str, what: &str) {
    context.recorder.warn(format!(
        "{dir} has too little room to keep the original initramfs files; {what}"
    ));
}

fn take(context: &mut Context<'_>, indexes: &[usize], ways: Vec<Way>) {
    for (index, way) in indexes.iter().zip(ways) {
        if let Some(plan) = context.initramfs.get_mut(*index) {
            plan.way = way;
        }
    }
}

/// Bound of the new file's length: gzip and the like of what LZ4 packed is smaller than that; unpacked it may be a few
/// times as long.
fn new_len(plan: &Plan) -> u64 {
    let repacked = match plan.packing {
        _ if !plan.repacks() => 0,
        Compression::None => plan.len.saturating_mul(UNPACKED_TIMES),
        _ => plan.len / 10,
    };
    plan.len + ALIGN + plan.archive.len() as u64 + repacked
}

/// Packs harder, one after the other, until the rest can be appended; `None` when that is not enough.
fn shrink(context: &Context<'_>, indexes: &[usize], free: u64) -> Result<Option<Vec<Way>>> {
    let mut ways: Vec<Way> = indexes.iter().map(|_| Way::Append).collect();
    let mut taken: i128 = 0;
    for index in indexes {
        if let Some(plan) = context.initramfs.get(*index) {
            taken += i128::from(plan.archive.len() as u64 + ALIGN);
        }
    }
    for (way, index) in ways.iter_mut().zip(indexes) {
        let Some(plan) = context.initramfs.get(*index) else {
            continue;
        };
        if taken <= i128::from(free) && !plan.repacks() {
            continue;
        }
        let Some(new) = smaller(context, plan)? else {
            if plan.repacks() {
                return Ok(None);
            }
            continue;
        };
        let gain = i128::from(plan.len + plan.archive.len() as u64 + ALIGN) - new.len() as i128;
        if gain > 0 || plan.repacks() {
            taken -= gain;
            *way = Way::Shrink(new);
        }
    }
    Ok((taken <= i128::from(free)).then_some(ways))
}

/// The whole new file, every packed part as small as the kernel can read it; `None` when it reads nothing better.
fn smaller(context: &Context<'_>, plan: &Plan) -> Result<Option<Vec<u8>>> {
    let Some(modules) = context.modules.get(&plan.kver) else {
        return Ok(None);
    };
    let reads = |kind: &Compression| {
        modules.config.reads(*kind) == Some(true)
            || plan
                .segments
                .iter()
                .any(|segment| segment.compression == *kind)
    };
    let best = [Compression::Xz, Compression::Zstd, Compression::Gzip]
        .into_iter()
        .find(reads);
    let Some(best) = best.filter(|_| plan.len <= SHRINK_MAX) else {
        return Ok(None);
    };
    let file = context.root.open_file(&plan.initrd)?;
    pack_again(BufReader::new(file), plan, best)
        .map(Some)
        .map_err(|error| initrd_error(&plan.initrd, error))
}

fn pack_again<R: io::BufRead + Seek>(
    mut reader: R,
    plan: &Plan,
    best: Compression,
) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let last = plan.segments.len().saturating_sub(1);
    for (index, segment) in plan.segments.iter().enumerate() {
        out.resize(out.len().next_multiple_of(4), 0);
        let end = plan
            .segments
            .get(index + 1)
            .map_or(plan.len, |next| next.offset);
        reader.seek(SeekFrom::Start(segment.offset))?;
        // Microcode at the front is read by the kernel before it can unpack anything.
        let early = segment.compression == Compression::None && index != last;
        if early {
            reader
                .by_ref()
                .take(end - segment.offset)
                .read_to_end(&mut out)?;
            continue;
        }
        out = pack_to(
            best,
            Effort::Smallest,
            out,
            &mut |to| match segment.compression {
                Compression::None => {
                    io::copy(&mut reader.by_ref().take(end - segment.offset), to).map(|_| ())
                }
                kind => unpack(kind, &mut reader, &mut |data| {
                    io::copy(data, to).map(|_| ())
                }),
            },
        )?;
    }
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(&plan.archive);
    Ok(out)
}

/// Says what is needed and which kernels can go.
fn refusal(context: &Context<'_>, dir: &str, count: usize, need: &Need, free: u64) -> Error {
    let mut old: Vec<&str> = context
        .guest
        .kernels
        .iter()
        .skip(1)
        .map(|kernel| kernel.version.as_str())
        .collect();
    old.sort_by(|a, b| compare_versions(a, b));
    let remove = if old.is_empty() {
        "there is no older kernel to remove: make the file system larger, or remove files from it"
            .to_owned()
    } else {
        format!("remove old kernels in the guest: {}", old.join(", "))
    };
    let message = format!(
        "expected {} KiB free for the drivers in {count} initramfs files ({} KiB to keep the originals too), found {} KiB; \
         {remove}",
        (need.append + SLACK).div_ceil(1024),
        (need.keep + SLACK).div_ceil(1024),
        (free + SLACK) >> 10,
    );
    Error::new(ErrorKind::NoSpace, message).at(dir)
}
