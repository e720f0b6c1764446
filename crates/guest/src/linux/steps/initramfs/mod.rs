//! virtio into the initramfs of every kernel, by an archive appended to it.
//!
//! ```text
//!   [early microcode cpio] [main archive, packed] 0 0 | our cpio: modules + regenerated modules.*  (+ small files)
//!                                                     └ starts at a multiple of 4
//! ```
//!
//! The kernel unpacks the archives in order and later files replace earlier ones
//! (Documentation/driver-api/early-userspace/buffer-format.rst). An LZ4 main archive is repacked, see
//! [`crate::linux::initrd::lz4`].

mod build;
mod write;

use crate::linux::convert::Context;
use crate::linux::initrd::{self, Compression, Contents};
use crate::linux::kernels;
use crate::{ErrorKind, Result};

pub(crate) use write::apply;

/// What happens to the initramfs of one kernel.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kver: String,
    /// Path in the guest, links followed; empty when the kernel has none.
    pub(crate) initrd: String,
    /// It can start from a virtio disk when this plan is done.
    pub(crate) ready: bool,
    /// Unpacked length bound and bytes of the archive to append; empty when nothing is to do.
    archive: Vec<u8>,
    /// Parts to repack: offset and compression of every part of the present file.
    repack: Vec<initrd::Segment>,
    /// Length of the present file.
    len: u64,
    /// There is room to keep the original beside it.
    keep: bool,
    /// For the report.
    why: String,
}

impl Plan {
    fn unchanged(kver: &str, ready: bool) -> Self {
        Self {
            kver: kver.to_owned(),
            initrd: String::new(),
            ready,
            archive: Vec::new(),
            repack: Vec::new(),
            len: 0,
            keep: false,
            why: String::new(),
        }
    }

    fn has_work(&self) -> bool {
        !self.archive.is_empty()
    }
}

pub(crate) fn applies(context: &Context<'_>) -> bool {
    context.initramfs.iter().any(Plan::has_work)
}

/// Builds every archive in memory and makes sure that they will fit, before anything is changed.
pub(crate) fn plan(context: &mut Context<'_>) -> Result<()> {
    for kernel in &context.guest.kernels {
        let plan = match &kernel.initrd {
            None => {
                let modules = context.modules.get(&kernel.version);
                let builtin = |name: &&str| modules.is_some_and(|modules| modules.is_builtin(name));
                Plan::unchanged(&kernel.version, kernels::REQUIRED.iter().all(|name| builtin(&name)))
            }
            Some(initrd) => match plan_one(context, &kernel.version, initrd) {
                Ok(plan) => plan,
                // A format that is not read here, or one broken file among many: other kernels may still do.
                Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Corrupt | ErrorKind::Limit) => {
                    let message = format!("initramfs of kernel {} left as it is: {}", kernel.version, error.chain());
                    context.recorder.warn(message);
                    Plan::unchanged(&kernel.version, false)
                }
                Err(error) => return Err(error),
            },
        };
        context.initramfs.push(plan);
    }
    write::decide_space(context)
}

fn plan_one(context: &mut Context<'_>, kver: &str, path: &str) -> Result<Plan> {
    let initrd = context.root.resolve_last(path)?;
    let contents = initrd::contents(context.root, &initrd)?;
    let Some(modules) = context.modules.get(kver) else { return Ok(Plan::unchanged(kver, false)) };
    let missing = kernels::missing(context.root, modules, &contents, kver);
    let foreign = !contents.modules.is_empty() && !contents.modules.contains_key(kver);
    if foreign {
        let found: Vec<&str> = contents.modules.keys().map(String::as_str).collect();
        let message = format!("{initrd} holds modules of {}, expected {kver}; left as it is", found.join(", "));
        context.recorder.warn(message);
        return Ok(Plan::unchanged(kver, false));
    }
    if missing.is_none() {
        context.recorder.warn(format!("kernel {kver} has no virtio drivers: it cannot start from a virtio disk"));
    }
    let needs_modules = missing.as_ref().is_some_and(|missing| !missing.is_empty());
    let cpio = build::archive(context, kver, &initrd, &contents, needs_modules)?;
    let ready = missing.is_some();
    let Some(cpio) = cpio else { return Ok(Plan::unchanged(kver, ready)) };
    let archive = build::pack(context, kver, &contents, cpio, &initrd)?;
    let lz4 = contents.segments.iter().any(|segment| segment.compression == Compression::Lz4);
    let why = match missing {
        Some(missing) if !missing.is_empty() => format!("it lacked {}", missing.join(", ")),
        _ => "the names in it would be those of the old machine".to_owned(),
    };
    Ok(Plan {
        kver: kver.to_owned(),
        len: context.root.meta(&initrd)?.len,
        initrd,
        ready,
        archive,
        repack: if lz4 { contents.segments } else { Vec::new() },
        keep: false,
        why,
    })
}

/// The main archive: the last part that is no microcode.
fn main_compression(contents: &Contents) -> Compression {
    contents.segments.last().map_or(Compression::None, |segment| segment.compression)
}
