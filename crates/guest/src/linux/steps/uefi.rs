//! The fallback loader of UEFI: \EFI\BOOT\BOOTX64.EFI (UEFI Specification 2.10, section 3.5.1.1).
//!
//! A converted guest may meet empty firmware variables, so a loader that only its vendor's boot entry names is not found.
//! What is copied, and how GRUB then finds its configuration:
//!
//! ```text
//!   EFI/VENDOR/shimx64.efi  ->  EFI/BOOT/BOOTX64.EFI     starts fbx64.efi if that is beside it, else its second stage
//!   EFI/VENDOR/grubx64.efi  ->  EFI/BOOT/grubx64.efi     (or BOOTX64.EFI, without shim)
//!   EFI/VENDOR/mmx64.efi    ->  EFI/BOOT/mmx64.efi       shim's key manager
//!   EFI/VENDOR/grub.cfg         found by the prefix in the image (/EFI/VENDOR on the ESP, or the root's UUID);
//!                               an image that looks beside itself ($cmdpath) finds EFI/BOOT/grub.cfg, which leads there
//! ```
//!
//! fbx64.efi is never copied: it makes boot entries and, where there is a TPM, resets the machine; if the variables are
//! not kept over the reset that is a loop. Without it shim starts GRUB at once, with or without variables. Where the
//! guest has fbx64.efi beside the fallback already, the directory is as its vendor made it and works by a BOOTX64.CSV.

use crate::Result;
use crate::linux::boot::efi::{self, Image, Program};
use crate::linux::boot::{find_ci, uki::Uki, vendors};
use crate::linux::convert::Context;
use crate::root::{join, split};

/// Names by architecture: in the fallback's name, and at the end of the others.
pub(crate) const ARCHS: [(&str, &str); 4] = [
    ("X64", "x64"),
    ("AA64", "aa64"),
    ("IA32", "ia32"),
    ("RISCV64", "riscv64"),
];
const WHY: &str = "firmware with empty variables starts only the fallback loader";
/// Room that stays free on the ESP.
const SPARE: u64 = 64 << 10;
/// A loader is copied up to this length; unified kernel images are the largest.
const LOADER_MAX: u64 = 256 << 20;

pub(crate) fn applies(context: &Context<'_>) -> bool {
    context.esp().is_some()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let Some(esp) = context.esp() else {
        return Ok(());
    };
    let mut any = false;
    for arch in ARCHS {
        any |= one_arch(context, &esp, arch)?;
    }
    if !any && let Some(kernel) = efi::stub_kernel(context.root, &esp) {
        any = true;
        startup_script(context, &esp, &kernel)?;
    }
    if !any {
        let reason = "the EFI system partition holds no loader that could become the fallback one";
        context.recorder.warn(reason);
        context.recorder.skip(reason);
    }
    context
        .recorder
        .not_needed("a fallback loader that works is there");
    Ok(())
}

/// True when there is a fallback loader for this architecture now.
fn one_arch(context: &mut Context<'_>, esp: &str, arch: (&str, &str)) -> Result<bool> {
    let fallback = format!("BOOT{}.EFI", arch.0);
    let Some(path) = find_ci(context.root, esp, &format!("EFI/BOOT/{fallback}")) else {
        return match vendor_loader(context, esp, arch.1) {
            Some(loader) => install(context, esp, &fallback, &loader).map(|()| true),
            None => Ok(false),
        };
    };
    let root = context.root;
    if root.meta(&path).is_ok_and(|meta| meta.len == 0) {
        if let Some(loader) = vendor_loader(context, esp, arch.1) {
            context.recorder.remove(&path, WHY)?;
            install(context, esp, &fallback, &loader)?;
        }
        return Ok(true);
    }
    if is_windows(context, esp, &path) {
        context.recorder.warn(format!(
            "{path} starts Windows, not Linux: without the new machine's boot entries Windows starts"
        ));
    } else if efi::kind(root, &path) == Image::Shim {
        repair_shim(context, esp, &path, arch)?;
    }
    Ok(true)
}

fn is_windows(context: &Context<'_>, esp: &str, path: &str) -> bool {
    let Some(manager) = find_ci(context.root, esp, "EFI/Microsoft/Boot/bootmgfw.efi") else {
        return false;
    };
    let len = |path: &str| context.root.meta(path).map(|meta| meta.len).ok();
    let hash = |path: &str| context.recorder.hash(path).ok();
    len(path) == len(&manager) && hash(path) == hash(&manager)
}

/// A shim whose second stage is missing starts nothing.
fn repair_shim(context: &mut Context<'_>, esp: &str, path: &str, arch: (&str, &str)) -> Result<()> {
    let root = context.root;
    let dir = split(path).map_or("", |(dir, _)| dir).to_owned();
    let beside = |name: &str| find_ci(root, &dir, name).is_some();
    let fallback_manager = beside(&format!("fb{}.efi", arch.1)) || beside("fallback.efi");
    if fallback_manager {
        return boot_csv(context, esp, arch);
    }
    if beside(&format!("grub{}.efi", arch.1)) || beside("grub.efi") {
        return Ok(());
    }
    match vendor_loader(context, esp, arch.1) {
        Some(loader) => {
            let copies = companions(context, &loader, &dir, arch.1);
            copy_all(context, esp, &loader, &copies)?;
            stub(context, esp, &dir, &loader)
        }
        None => {
            let message = format!("{path} is a shim without the loader that it starts");
            context.recorder.warn(message.clone());
            context.recorder.skip(message);
            Ok(())
        }
    }
}

/// fbx64.efi follows each vendor's CSV; where none leads to a loader, one is written.
fn boot_csv(context: &mut Context<'_>, esp: &str, arch: (&str, &str)) -> Result<()> {
    let root = context.root;
    let leads = |dir: &String| {
        efi::boot_csv(root, dir, arch.0)
            .iter()
            .any(|line| find_ci(root, dir, &line.file).is_some())
    };
    if vendors(root, esp).iter().any(leads) {
        return Ok(());
    }
    let Some(loader) = vendor_loader(context, esp, arch.1) else {
        context.recorder.warn(
            "the fallback loader follows a BOOT.CSV, and there is none and no loader for one",
        );
        return Ok(());
    };
    let first = loader.shim.as_ref().unwrap_or(&loader.main);
    let file = first.path.rsplit('/').next().unwrap_or_default();
    let content = efi::csv(file, &label(context, &loader.main.dir));
    let path = join(&loader.main.dir, &format!("BOOT{}.CSV", arch.0));
    context.recorder.write(
        &path,
        &content,
        "the fallback loader finds the vendor's loader by it",
    )?;
    Ok(())
}

/// What the firmware's menu calls the guest where no CSV says it.
pub(crate) fn label(context: &Context<'_>, dir: &str) -> String {
    let name = dir.rsplit('/').next().unwrap_or(dir);
    if own_names(context).contains(&name.to_ascii_lowercase()) {
        context.guest.product_name.clone()
    } else {
        name.to_owned()
    }
}

/// What a vendor directory has to offer.
pub(crate) struct Loader {
    pub(crate) shim: Option<Program>,
    pub(crate) main: Program,
}

/// How the guest's vendor may call its directory.
fn own_names(context: &Context<'_>) -> Vec<String> {
    let guest = &context.guest;
    let mut names = vec![guest.distro.clone()];
    names.extend(
        guest
            .distro
            .split_once('-')
            .map(|(first, _)| first.to_owned()),
    );
    names.extend(guest.distro_like.iter().cloned());
    if names
        .iter()
        .any(|name| matches!(name.as_str(), "rhel" | "fedora" | "centos"))
    {
        names.push("redhat".to_owned());
    }
    names
}

/// The vendor directories, the guest's own first; neither the fallback's nor Windows'.
pub(crate) fn vendor_dirs(context: &Context<'_>, esp: &str) -> Vec<String> {
    let base = |dir: &String| {
        dir.rsplit('/')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let names = own_names(context);
    let mut dirs = vendors(context.root, esp);
    dirs.retain(|dir| !matches!(base(dir).as_str(), "boot" | "microsoft"));
    dirs.sort_by_key(|dir| {
        let place = names.iter().position(|name| *name == base(dir));
        // Unified kernel images have no loader above them, so they come last.
        (base(dir) == "linux", place.unwrap_or(names.len()))
    });
    dirs
}

/// The best loader for an architecture.
pub(crate) fn vendor_loader(context: &Context<'_>, esp: &str, suffix: &str) -> Option<Loader> {
    let dirs = vendor_dirs(context, esp);
    dirs.iter().find_map(|dir| loader_in(context, dir, suffix))
}

/// The loader of one directory.
pub(crate) fn loader_in(context: &Context<'_>, dir: &str, suffix: &str) -> Option<Loader> {
    let programs = efi::programs(context.root, dir);
    let named = |start: &str, exact: &[&str]| {
        programs.iter().find(|program| {
            let name = program
                .path
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            name == format!("{start}{suffix}.efi")
                || (suffix == "x64" && exact.contains(&name.as_str()))
        })
    };
    // SUSE's names have no suffix; CentOS 6 has GRUB legacy's grub.efi.
    let main = named("grub", &["grub.efi", "elilo.efi"])
        .or_else(|| named("systemd-boot", &[]))
        .or_else(|| named("refind_", &[]))
        .or_else(|| newest_uki(context, &programs, suffix))?;
    let shim = named("shim", &["shim.efi"]).filter(|_| main.kind == Image::Grub);
    Some(Loader {
        shim: shim.cloned(),
        main: main.clone(),
    })
}

/// By release; UKIs of other architectures do not share an ESP.
fn newest_uki<'p>(
    context: &Context<'_>,
    programs: &'p [Program],
    suffix: &str,
) -> Option<&'p Program> {
    let own = match context.guest.arch {
        types::Arch::X86_64 => "x64",
        types::Arch::Aarch64 => "aa64",
        types::Arch::I686 => "ia32",
        _ => return None,
    };
    let ukis = programs
        .iter()
        .filter(|program| program.kind == Image::Uki && own == suffix);
    ukis.max_by(|a, b| {
        let release = |program: &Program| {
            Uki::read(context.root, &program.path)
                .unwrap_or_default()
                .uname
        };
        crate::linux::kernels::compare_versions(&release(a), &release(b))
    })
}

fn install(context: &mut Context<'_>, esp: &str, fallback: &str, loader: &Loader) -> Result<()> {
    let root = context.root;
    let boot = find_ci(root, esp, "EFI/BOOT").unwrap_or_else(|| {
        let efi = find_ci(root, esp, "EFI").unwrap_or_else(|| join(esp, "EFI"));
        join(&efi, "BOOT")
    });
    let suffix = fallback
        .trim_start_matches("BOOT")
        .trim_end_matches(".EFI")
        .to_ascii_lowercase();
    let mut copies = match &loader.shim {
        Some(_) => companions(context, loader, &boot, &suffix),
        None => Vec::new(),
    };
    let first = loader.shim.as_ref().unwrap_or(&loader.main);
    // The fallback itself last: half a set of files starts nothing.
    copies.push((first.path.clone(), join(&boot, fallback)));
    if let Some(config) = find_ci(root, &loader.main.dir, "grub.conf") {
        // GRUB legacy takes its name with .conf.
        let name = fallback.replace(".EFI", ".conf");
        copies.insert(0, (config, join(&boot, &name)));
    }
    if copy_all(context, esp, loader, &copies)? {
        stub(context, esp, &boot, loader)?;
    }
    Ok(())
}

/// What a shim starts or lets one use: second stage and key manager, by all their names.
fn companions(
    context: &Context<'_>,
    loader: &Loader,
    boot: &str,
    suffix: &str,
) -> Vec<(String, String)> {
    let names = [
        format!("grub{suffix}.efi"),
        format!("mm{suffix}.efi"),
        "grub.efi".to_owned(),
        "MokManager.efi".to_owned(),
    ];
    names
        .iter()
        .filter_map(|name| {
            let from = find_ci(context.root, &loader.main.dir, name)?;
            Some((from, join(boot, name)))
        })
        .collect()
}

/// Copies what is not there yet, if all of it has room.
fn copy_all(
    context: &mut Context<'_>,
    esp: &str,
    loader: &Loader,
    copies: &[(String, String)],
) -> Result<bool> {
    let root = context.root;
    let missing = |(_, to): &&(String, String)| {
        let (dir, name) = split(to).unwrap_or(("", to));
        find_ci(root, dir, name).is_none()
    };
    let copies: Vec<_> = copies.iter().filter(missing).collect();
    let lens = copies.iter().filter_map(|(from, _)| root.meta(from).ok());
    let needed = lens.fold(0u64, |sum, meta| sum.saturating_add(meta.len));
    let free = root.free_bytes(esp)?;
    if free < needed.saturating_add(SPARE) || needed > LOADER_MAX {
        let message = format!(
            "the EFI system partition has {} KiB free, a fallback loader needs {} KiB: {} starts by the new machine's boot entry \
             alone",
            free >> 10,
            needed >> 10,
            loader.main.path
        );
        context.recorder.warn(message);
        context.recorder.skip("no room on the EFI system partition");
        return Ok(false);
    }
    for (from, to) in copies {
        let content = root.read(from, LOADER_MAX)?;
        context.recorder.write(to, &content, WHY)?;
    }
    if loader.main.kind == Image::Uki {
        context.recorder.warn(format!(
            "the fallback loader is a copy of {}: after an update of the kernel copy the new image there, or install systemd-boot",
            loader.main.path
        ));
    }
    Ok(true)
}

/// A grub.cfg beside the copied loader that leads to the vendor's.
fn stub(context: &mut Context<'_>, esp: &str, boot: &str, loader: &Loader) -> Result<()> {
    let Some(config) = find_ci(context.root, &loader.main.dir, "grub.cfg") else {
        return Ok(());
    };
    if find_ci(context.root, boot, "grub.cfg").is_some() {
        return Ok(());
    }
    let on_esp = config
        .strip_prefix(esp.trim_end_matches('/'))
        .unwrap_or(&config);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+');
    if !on_esp.chars().all(plain) {
        // A name that would need quoting in GRUB's script; the prefix in the image has to do.
        return Ok(());
    }
    let text = format!(
        "# Written by v2v: leads from the fallback loader to the configuration of the distribution.\n\
         search --no-floppy --set=root --file {on_esp}\n\
         set prefix=($root){}\n\
         configfile {on_esp}\n",
        on_esp.rsplit_once('/').map_or("", |(dir, _)| dir)
    );
    context
        .recorder
        .write(&join(boot, "grub.cfg"), text.as_bytes(), WHY)?;
    Ok(())
}

/// A kernel that only a boot entry started: the UEFI shell, where the firmware has one, starts it by startup.nsh
/// (UEFI Shell Specification 2.2, section 3.4).
fn startup_script(context: &mut Context<'_>, esp: &str, kernel: &str) -> Result<()> {
    let path = join(esp, "startup.nsh");
    if find_ci(context.root, esp, "startup.nsh").is_none() {
        let args = super::boot_entries::stub_arguments(context, esp, kernel);
        let script = format!("{} {args}\n", super::boot_entries::efi_path(esp, kernel));
        context.recorder.write(&path, script.as_bytes(), WHY)?;
        context.recorder.warn(format!(
            "{kernel} was started by an entry in the old machine's firmware; a new entry and {path} start it with: {args}"
        ));
    }
    Ok(())
}
