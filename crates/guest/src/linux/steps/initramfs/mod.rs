//! virtio into every initramfs that the guest can start from, by an archive appended to it.
//!
//! ```text
//!   [early microcode cpio] [main archive, packed] 0 0 | our cpio: modules + regenerated modules.*  (+ small files)
//!                                                     └ starts at a multiple of 4
//! ```
//!
//! The kernel unpacks the archives in order and later files replace earlier ones
//! (Documentation/driver-api/early-userspace/buffer-format.rst). What nothing may follow is repacked, see
//! [`Compression::must_be_last`].

mod build;
mod depmod;
pub(crate) mod lists;
mod loads;
mod nash;
mod space;
mod write;

use std::io::Read;
use std::rc::Rc;

use crate::linux::caps::{self, Drives};
use crate::linux::convert::Context;
use crate::linux::initrd::find::{self, Image};
use crate::linux::initrd::{self, Compression, Contents, Segment};
use crate::linux::kernels::{self, REQUIRED, REQUIRED_SCSI};
use crate::linux::modules::Modules;
use crate::{Error, ErrorKind, Result, Root};

pub(crate) use write::apply;

/// Bytes of two files that are compared at a time.
const COMPARED: usize = 1 << 20;
/// Where unified kernel images are.
const UNIFIED: [&str; 3] = ["/efi/EFI/Linux", "/boot/efi/EFI/Linux", "/boot/EFI/Linux"];

/// What happens to one initramfs, or that a kernel without one needs none.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The kernel.
    pub(crate) kver: String,
    /// Path in the guest, links followed; empty when the kernel has none.
    pub(crate) initrd: String,
    /// The kernel starts with this one usually; else it is a rescue, fallback or previous one.
    pub(crate) primary: bool,
    /// It can start from a disk on the bus that the disks will be on, when this plan is done.
    pub(crate) ready: bool,
    /// The archive to append, packed; empty when nothing is to do.
    archive: Vec<u8>,
    /// Parts of the present file.
    segments: Vec<Segment>,
    /// Parts that cannot stay as they are become this.
    packing: Compression,
    /// Length of the present file.
    len: u64,
    /// How it is written.
    way: Way,
    /// For the report.
    why: String,
}

/// How a new initramfs takes the place of the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Way {
    /// Written beside it; the old one is kept under another name.
    #[default]
    Keep,
    /// Written beside it, then renamed over it.
    Replace,
    /// Appended to the file itself.
    Append,
    /// Packed harder, in memory already, and written over it.
    Shrink(Vec<u8>),
}

impl Plan {
    fn unchanged(kver: &str, initrd: &str, primary: bool, ready: bool) -> Self {
        Self {
            kver: kver.to_owned(),
            initrd: initrd.to_owned(),
            primary,
            ready,
            archive: Vec::new(),
            segments: Vec::new(),
            packing: Compression::None,
            len: 0,
            way: Way::Keep,
            why: String::new(),
        }
    }

    /// The same work on a copy of the file.
    fn of_copy(&self, image: &Image) -> Self {
        Self {
            initrd: image.path.clone(),
            primary: image.primary,
            ..self.clone()
        }
    }

    fn has_work(&self) -> bool {
        !self.archive.is_empty()
    }

    /// Some part of the file must be repacked before anything may follow.
    fn repacks(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| segment.compression.must_be_last())
    }
}

/// An initramfs that was read.
struct Scan {
    image: Image,
    kver: String,
    contents: Rc<Contents>,
}

pub(crate) fn applies(context: &Context<'_>) -> bool {
    context.initramfs.iter().any(Plan::has_work)
}

/// Decides the bus, builds every archive in memory and makes sure that they will fit, before anything is changed.
pub(crate) fn plan(context: &mut Context<'_>) -> Result<()> {
    let mut scans = Vec::new();
    let mut plans = Vec::new();
    for kernel in &context.guest.kernels {
        if kernel.initrd.is_none() {
            plans.push((kernel.version.clone(), String::new()));
        }
    }
    for image in find::images(context.root, &context.guest.kernels) {
        match scan(context, &image, &scans) {
            Ok(Some(scan)) => scans.push(scan),
            Ok(None) => {}
            Err(error) => {
                leave(context, &image.path, &error)?;
                if image.primary {
                    plans.push((image.kver.unwrap_or_default(), image.path));
                }
            }
        }
    }
    let drives = |kver: &str| -> Drives {
        let Some(modules) = context.modules.get(kver) else {
            return Drives::default();
        };
        if scans
            .iter()
            .any(|scan| scan.image.primary && scan.kver == kver)
        {
            return Drives {
                blk: kernels::has_all(modules, &REQUIRED),
                scsi: kernels::has_all(modules, &REQUIRED_SCSI),
            };
        }
        // Without an initramfs, or with one that is not read here, only what is built in counts.
        let builtin = |names: &[&str]| names.iter().all(|name| modules.is_builtin(name));
        Drives {
            blk: builtin(&REQUIRED),
            scsi: builtin(&REQUIRED_SCSI),
        }
    };
    let choice = caps::choose_bus(context, drives);
    let ready: Vec<bool> = plans
        .iter()
        .map(|(kver, _)| drives(kver).on(choice.bus))
        .collect();
    choice.take(context);
    if ready.contains(&false) {
        warn_unified(context);
    }
    for ((kver, initrd), ready) in plans.into_iter().zip(ready) {
        let plan = Plan::unchanged(&kver, &initrd, true, ready);
        context.initramfs.push(plan);
    }
    let first = context.initramfs.len();
    for (index, scan) in scans.iter().enumerate() {
        let twin = scans
            .iter()
            .take(index)
            .position(|other| Rc::ptr_eq(&other.contents, &scan.contents));
        let done = twin
            .and_then(|twin| context.initramfs.get(first + twin))
            .filter(|done| done.has_work());
        let plan = match done {
            Some(done) => Ok(done.of_copy(&scan.image)),
            None => plan_one(context, scan),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                leave(context, &scan.image.path, &error)?;
                Plan::unchanged(&scan.kver, &scan.image.path, scan.image.primary, false)
            }
        };
        context.initramfs.push(plan);
    }
    space::decide(context)
}

/// A unified kernel image holds kernel, initramfs and arguments in one program, perhaps signed (UAPI.5).
fn warn_unified(context: &mut Context<'_>) {
    for top in UNIFIED {
        let names = context.root.names(top);
        for name in names.iter().filter(|name| name.ends_with(".efi")) {
            context.recorder.warn(format!(
                "{top}/{name} is a unified kernel image, which is not changed here: if it lacks virtio drivers, rebuild \
                 it in the guest with them before the conversion"
            ));
        }
    }
}

/// A format that is not read here, or one broken file among many, is a warning: other kernels may still do.
fn leave(context: &mut Context<'_>, path: &str, error: &Error) -> Result<()> {
    let harmless = [ErrorKind::Unsupported, ErrorKind::Corrupt, ErrorKind::Limit];
    if !harmless.contains(&error.kind()) {
        return Err(Error::new(error.kind(), error.chain()));
    }
    let why = error.chain();
    let why = why.strip_prefix(&format!("{path}: ")).unwrap_or(&why);
    context
        .recorder
        .warn(format!("{path} is left as it is: {why}"));
    Ok(())
}

/// Reads an initramfs and finds the kernel that it is for; `None` when it is for none that is installed.
fn scan(context: &mut Context<'_>, image: &Image, before: &[Scan]) -> Result<Option<Scan>> {
    let copied = before
        .iter()
        .filter(|other| match &image.kver {
            Some(kver) => *kver == other.kver,
            None => other.contents.modules.len() == 1,
        })
        .find(|other| is_copy(context.root, &other.image.path, &image.path).unwrap_or(false));
    if let Some(other) = copied {
        tracing::debug!("{}: a copy of {}", image.path, other.image.path);
        return Ok(Some(Scan {
            image: image.clone(),
            kver: other.kver.clone(),
            contents: Rc::clone(&other.contents),
        }));
    }
    let contents = initrd::contents(context.root, &image.path)?;
    tracing::debug!(
        "{}: {:?}, by {:?}",
        image.path,
        contents.main_compression(),
        contents.generator
    );
    let inside: Vec<&String> = contents.modules.keys().collect();
    let installed = |kver: &&&String| context.modules.contains_key(kver.as_str());
    let known = inside.iter().find(installed).map(|kver| (**kver).clone());
    let kver = match (&image.kver, known) {
        (Some(named), _) if inside.is_empty() || inside.contains(&named) => named.clone(),
        (None, None) if inside.is_empty() => return Ok(None),
        (None, Some(known)) => known,
        (named, _) => {
            let found: Vec<&str> = inside.iter().map(|kver| kver.as_str()).collect();
            let found = found.join(", ");
            let has = inside.iter().any(|kver| {
                let have = contents.modules_of(kver);
                REQUIRED.iter().all(|name| have.contains(*name))
            });
            if !has {
                let expected = named.as_deref().map_or_else(
                    || "which is not installed".to_owned(),
                    |named| format!("expected {named}"),
                );
                context.recorder.warn(format!(
                    "{} holds modules of {found}, {expected}; left as it is, and whether it starts from a virtio disk \
                     is not known",
                    image.path
                ));
            }
            return Ok(None);
        }
    };
    Ok(Some(Scan {
        image: image.clone(),
        kver,
        contents: Rc::new(contents),
    }))
}

/// Whether two files are the same, byte for byte: kernel-install puts copies on the ESP, which need not be unpacked again.
pub(crate) fn is_copy(root: &Root, one: &str, other: &str) -> Result<bool> {
    let [one_len, other_len] = [root.meta(one)?.len, root.meta(other)?.len];
    if one_len != other_len {
        return Ok(false);
    }
    let [mut one, mut other] = [root.open_file(one)?, root.open_file(other)?];
    let mut blocks = [vec![0; COMPARED], vec![0; COMPARED]];
    let mut left = one_len;
    while left > 0 {
        let len = usize::try_from(left).map_or(COMPARED, |left| left.min(COMPARED));
        for (file, block) in [&mut one, &mut other].into_iter().zip(&mut blocks) {
            block.truncate(len);
            file.read_exact(block)
                .map_err(|error| Error::io("comparing with another initramfs", error))?;
        }
        if blocks.first() != blocks.last() {
            return Ok(false);
        }
        left -= len as u64;
    }
    Ok(true)
}

fn plan_one(context: &mut Context<'_>, scan: &Scan) -> Result<Plan> {
    let Scan {
        image,
        kver,
        contents,
    } = scan;
    let Some(modules) = context.modules.get(kver).cloned() else {
        return Ok(Plan::unchanged(kver, &image.path, image.primary, false));
    };
    let drives = Drives {
        blk: kernels::has_all(&modules, &REQUIRED),
        scsi: kernels::has_all(&modules, &REQUIRED_SCSI),
    };
    let ready = drives.on(context.block_bus);
    if !drives.blk && !drives.scsi && image.primary {
        context.recorder.warn(format!(
            "kernel {kver} has no virtio drivers: it cannot start from a virtio disk"
        ));
    }
    let missing = missing(context, &modules, scan, drives);
    let target = depmod::Target {
        kver,
        initrd: &image.path,
        contents,
    };
    let mut plan = Plan::unchanged(kver, &image.path, image.primary, ready);
    let Some(cpio) = build::archive(context, target, &missing)? else {
        return Ok(plan);
    };
    plan.archive = build::pack(&modules, contents, &cpio, &image.path)?;
    tracing::debug!(
        "{}: {} bytes go behind it, packed {}",
        image.path,
        cpio.len(),
        plan.archive.len()
    );
    plan.packing = build::packing(&modules, contents);
    plan.segments.clone_from(&contents.segments);
    plan.len = context.root.meta(&image.path)?.len;
    plan.why = if missing.is_empty() {
        "the names in it would be those of the old machine".to_owned()
    } else {
        format!("it lacked {}", missing.join(", "))
    };
    Ok(plan)
}

/// What is to be added; nothing for a kernel that has neither virtio-blk nor virtio-scsi to give.
fn missing(context: &Context<'_>, modules: &Modules, scan: &Scan, drives: Drives) -> Vec<String> {
    if !drives.blk && !drives.scsi {
        return Vec::new();
    }
    let names = build::needed(context, modules);
    kernels::missing(context.root, modules, &scan.contents, &scan.kver, &names)
}
