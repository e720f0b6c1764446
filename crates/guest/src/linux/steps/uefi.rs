//! The fallback loader of UEFI: \EFI\BOOT\BOOTX64.EFI (UEFI Specification 2.10, section 3.5.1.1).
//!
//! A converted guest meets empty firmware variables, so a loader that only its vendor's boot entry names is not found.
//! What is copied, and how GRUB then finds its configuration:
//!
//! ```text
//!   EFI/VENDOR/shimx64.efi  ->  EFI/BOOT/BOOTX64.EFI     starts fbx64.efi if that is beside it (it follows
//!                                                         VENDOR/BOOTX64.CSV), else grubx64.efi beside it
//!   EFI/VENDOR/grubx64.efi  ->  EFI/BOOT/grubx64.efi     (or BOOTX64.EFI, without shim)
//!   EFI/VENDOR/grub.cfg         found by the prefix in the image (/EFI/VENDOR on the ESP, or the root's UUID);
//!                               an image that looks beside itself ($cmdpath) finds EFI/BOOT/grub.cfg, which leads there
//! ```

use crate::Result;
use crate::linux::boot::{find_ci, vendors};
use crate::linux::convert::Context;
use crate::root::join;

/// Names by architecture: fallback loader, and the suffix of the others.
const NAMES: [(&str, &str); 3] = [("BOOTX64.EFI", "x64.efi"), ("BOOTAA64.EFI", "aa64.efi"), ("BOOTIA32.EFI", "ia32.efi")];
const WHY: &str = "firmware with empty variables starts only the fallback loader";

pub(crate) fn applies(context: &Context<'_>) -> bool {
    context.esp().is_some()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let Some(esp) = context.esp() else { return Ok(()) };
    let mut any = false;
    for (fallback, suffix) in NAMES {
        if find_ci(context.root, &esp, &format!("EFI/BOOT/{fallback}")).is_some() {
            any = true;
            continue;
        }
        if let Some(loader) = vendor_loader(context, &esp, suffix) {
            install(context, &esp, fallback, suffix, &loader)?;
            any = true;
        }
    }
    if !any {
        context.recorder.warn("the EFI system partition holds no loader that could become the fallback one");
    }
    Ok(())
}

/// What a vendor directory has to offer.
struct Loader {
    dir: String,
    shim: Option<String>,
    main: String,
}

/// The guest's own vendor directory before others; Windows' is never taken for Linux.
fn vendor_loader(context: &Context<'_>, esp: &str, suffix: &str) -> Option<Loader> {
    let base = |dir: &String| dir.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let mut dirs = vendors(context.root, esp);
    dirs.retain(|dir| !matches!(base(dir).as_str(), "boot" | "microsoft"));
    let own = [context.guest.distro.as_str(), if context.guest.distro == "rhel" { "redhat" } else { "" }];
    dirs.sort_by_key(|dir| !own.contains(&base(dir).as_str()));
    dirs.into_iter().find_map(|dir| {
        let find = |name: &str| find_ci(context.root, &dir, &format!("{name}{suffix}"));
        // CentOS 6 has GRUB legacy's grub.efi.
        let main = find("grub").or_else(|| find("systemd-boot")).or_else(|| find_ci(context.root, &dir, "grub.efi"))?;
        Some(Loader { shim: find("shim"), main, dir })
    })
}

fn install(context: &mut Context<'_>, esp: &str, fallback: &str, suffix: &str, loader: &Loader) -> Result<()> {
    let boot = match find_ci(context.root, esp, "EFI/BOOT") {
        Some(dir) => dir,
        None => join(&find_ci(context.root, esp, "EFI").unwrap_or_else(|| join(esp, "EFI")), "BOOT"),
    };
    let beside = |name: &str| join(&boot, name);
    let mut copies: Vec<(String, String)> = Vec::new();
    match &loader.shim {
        Some(shim) => {
            copies.push((loader.main.clone(), beside(&format!("grub{suffix}"))));
            if let Some(manager) = find_ci(context.root, &loader.dir, &format!("mm{suffix}")) {
                copies.push((manager, beside(&format!("mm{suffix}"))));
            }
            copies.push((shim.clone(), beside(fallback)));
        }
        None => copies.push((loader.main.clone(), beside(fallback))),
    }
    let needed: u64 = copies.iter().filter_map(|(from, _)| context.root.meta(from).ok()).map(|meta| meta.len).sum();
    let free = context.root.free_bytes(esp)?;
    if free < needed + (64 << 10) {
        context.recorder.warn(format!(
            "the EFI system partition has {} KiB free, a fallback loader needs {} KiB: add a boot entry for {} by hand",
            free >> 10,
            needed >> 10,
            loader.main
        ));
        return Ok(());
    }
    let existing = |path: &str| {
        let (dir, name) = crate::root::split(path).unwrap_or(("", path));
        find_ci(context.root, dir, name).is_some()
    };
    for (from, to) in copies.iter().filter(|(_, to)| !existing(to)).collect::<Vec<_>>() {
        context.recorder.copy(from, to, WHY)?;
    }
    stub(context, esp, &boot, loader)
}

/// A grub.cfg beside the copied loader that leads to the vendor's.
fn stub(context: &mut Context<'_>, esp: &str, boot: &str, loader: &Loader) -> Result<()> {
    let Some(config) = find_ci(context.root, &loader.dir, "grub.cfg") else { return Ok(()) };
    if find_ci(context.root, boot, "grub.cfg").is_some() {
        return Ok(());
    }
    let on_esp = config.strip_prefix(esp.trim_end_matches('/')).unwrap_or(&config);
    let text = format!(
        "# Written by v2v: leads from the fallback loader to the configuration of the distribution.\n\
         search --no-floppy --set=root --file {on_esp}\n\
         set prefix=($root){}\n\
         configfile {on_esp}\n",
        on_esp.rsplit_once('/').map_or("", |(dir, _)| dir)
    );
    context.recorder.write(&join(boot, "grub.cfg"), text.as_bytes(), WHY)?;
    Ok(())
}
