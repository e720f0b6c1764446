//! Makes the best kernel the default one when the present default cannot run on KVM: a Xen-only kernel, or one without
//! virtio where others have it.
//!
//! [`choose`] runs before the conversion plans anything, so that the disk bus follows the kernel that will start; the step
//! writes the choice into the boot loader's configuration.

use types::{BlockBus, ConvertOptions, GuestInfo, KernelInfo};

use crate::Result;
use crate::Root;
use crate::linux::boot::place::Places;
use crate::linux::boot::{self, Loader, MenuEntry, extlinux, grub_legacy, grub2, systemd_boot};
use crate::linux::caps;
use crate::linux::convert::Context;
use crate::linux::kernels::compare_versions;

const WHY: &str = "the default kernel cannot start the guest on KVM";

/// Another default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The present default.
    from: String,
    /// Why it cannot stay.
    because: String,
    /// The kernel to start.
    to: String,
    /// Its menu entry.
    entry: MenuEntry,
}

/// The kernel to start instead of the default one, if that cannot run on KVM and another can.
pub(crate) fn choose(root: &Root, guest: &GuestInfo, options: &ConvertOptions) -> Option<Choice> {
    let default = guest.kernels.iter().find(|kernel| kernel.is_default)?;
    let because = hindrance(root, default)?;
    if is_emulated(options) && !is_xen_only(root, default) {
        return None;
    }
    best(root, guest, default, because, |kernel| {
        hindrance(root, kernel).is_none()
    })
}

/// Any kernel does on an emulated bus.
fn is_emulated(options: &ConvertOptions) -> bool {
    matches!(options.block_driver, Some(BlockBus::Sata | BlockBus::Ide))
}

/// Once every initramfs is planned: where another kernel than the default one is to start the guest, it becomes the
/// default, or, if no entry of the same menu starts it, the disks stay on a bus that the default one drives.
pub(crate) fn settle(context: &mut Context<'_>) {
    let guest = context.guest;
    let Some(default) = guest.kernels.first() else {
        return;
    };
    if context.start_kernel == default.version || is_emulated(context.options) {
        return;
    }
    let because = "cannot start from virtio disks".to_owned();
    let wanted = context.start_kernel.clone();
    match best(context.root, guest, default, because, |kernel| {
        kernel.version == wanted
    }) {
        Some(choice) => context.default_kernel = Some(choice),
        None => caps::stay(context, &default.version),
    }
}

/// The newest kernel that is able and in the same menu, no debug one if possible.
fn best(
    root: &Root,
    guest: &GuestInfo,
    default: &KernelInfo,
    because: String,
    is_able: impl Fn(&KernelInfo) -> bool,
) -> Option<Choice> {
    let entries = boot::entries(root);
    // The loader of the present default; in another one's menu a change would have no effect.
    let loader = entries.iter().find(|entry| entry.is_default)?.loader;
    let same_menu = |entry: &&MenuEntry| menu_of(entry.loader) == menu_of(loader);
    let fits = |kernel: &KernelInfo, entry: &MenuEntry| {
        entry.kernel.is_some()
            && entry.kernel == real(root, kernel)
            && !entry.is_rescue
            && !is_xen(entry)
    };
    let mut able: Vec<(&KernelInfo, &MenuEntry)> = guest
        .kernels
        .iter()
        .filter(|kernel| kernel.version != default.version && is_able(kernel))
        .filter_map(|kernel| {
            let mut menu = entries.iter().filter(same_menu);
            Some((kernel, menu.find(|entry| fits(kernel, entry))?))
        })
        .collect();
    able.sort_by(|(a, _), (b, _)| {
        is_debug(a)
            .cmp(&is_debug(b))
            .then_with(|| compare_versions(&b.version, &a.version))
    });
    let (kernel, entry) = able.first()?;
    Some(Choice {
        from: default.version.clone(),
        because,
        to: kernel.version.clone(),
        entry: (*entry).clone(),
    })
}

/// The guest as it will be: the chosen kernel first and default.
pub(crate) fn with_choice(mut guest: GuestInfo, choice: Option<&Choice>) -> GuestInfo {
    if let Some(choice) = choice {
        for kernel in &mut guest.kernels {
            kernel.is_default = kernel.version == choice.to;
        }
        // Stable: the others stay in their order.
        guest.kernels.sort_by_key(|kernel| !kernel.is_default);
    }
    guest
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let Some(choice) = context.default_kernel.clone() else {
        let default = context
            .guest
            .kernels
            .iter()
            .find(|kernel| kernel.is_default);
        match default.and_then(|kernel| hindrance(context.root, kernel)) {
            Some(because) => {
                context.recorder.skip(format!(
                    "the default kernel {because}, and no other in its menu is better"
                ));
            }
            None => context
                .recorder
                .not_needed("the default kernel can run on KVM"),
        }
        return Ok(());
    };
    let done = set_default(context, &choice.entry)?;
    red_hat(context)?;
    if done {
        context.recorder.warn(format!(
            "kernel {} {}; {} starts by default now",
            choice.from, choice.because, choice.to
        ));
    } else {
        let message = format!(
            "kernel {} {}, and {} could not be made the default one: choose it in the boot menu",
            choice.from, choice.because, choice.to
        );
        context.recorder.skip(message.clone());
        context.recorder.warn(message);
    }
    Ok(())
}

fn set_default(context: &mut Context<'_>, entry: &MenuEntry) -> Result<bool> {
    let places = Places::of(context.root);
    let recorder = &mut context.recorder;
    match entry.loader {
        Loader::Grub2 | Loader::Grub2Bls => grub2::set_default(recorder, &places, entry, WHY),
        Loader::GrubLegacy => grub_legacy::set_default(recorder, entry, WHY),
        Loader::SystemdBoot | Loader::Uki => {
            systemd_boot::set_default(recorder, &places, entry, WHY)
        }
        Loader::Extlinux => extlinux::set_default(recorder, &places, entry, WHY),
    }
}

/// The next kernel of this package becomes default when it is installed (RHBZ#1176801).
fn red_hat(context: &mut Context<'_>) -> Result<()> {
    context
        .recorder
        .edit("/etc/sysconfig/kernel", WHY, |text| {
            Some(grub2::replace_lines(text, |line| {
                let package = line.strip_prefix("DEFAULTKERNEL=")?;
                let plain = package.trim_matches('"');
                plain
                    .contains("xen")
                    .then(|| "DEFAULTKERNEL=kernel".to_owned())
            }))
        })?;
    Ok(())
}

fn menu_of(loader: Loader) -> Loader {
    match loader {
        Loader::Grub2Bls => Loader::Grub2,
        Loader::Uki => Loader::SystemdBoot,
        other => other,
    }
}

fn real(root: &Root, kernel: &KernelInfo) -> Option<String> {
    let path = kernel.vmlinuz.as_deref()?;
    Some(root.resolve_last(path).unwrap_or_else(|_| path.to_owned()))
}

/// It starts the hypervisor, which then starts the kernel.
fn is_xen(entry: &MenuEntry) -> bool {
    entry.title.to_ascii_lowercase().contains("with xen")
}

fn is_debug(kernel: &KernelInfo) -> bool {
    kernel.version.contains("debug")
}

/// Why a kernel cannot start the guest on KVM.
fn hindrance(root: &Root, kernel: &KernelInfo) -> Option<String> {
    if is_xen_only(root, kernel) {
        return Some("runs under Xen only".to_owned());
    }
    let able = kernel.has_virtio_blk || kernel.has_virtio_scsi;
    (!able).then(|| "has no virtio drivers".to_owned())
}

/// A kernel of Xen's own port, built for Xen and nothing else: RHEL 5's and SLES 10 to 12's kernel-xen. One with the
/// paravirtual operations of Linux 2.6.23 runs everywhere.
fn is_xen_only(root: &Root, kernel: &KernelInfo) -> bool {
    let config = root.text(&format!("/boot/config-{}", kernel.version));
    match config {
        Some(text) => {
            let set = |name: &str| {
                text.lines()
                    .any(|line| line.strip_prefix(name).is_some_and(|rest| rest == "=y"))
            };
            let xen = ["CONFIG_X86_XEN", "CONFIG_X86_64_XEN", "CONFIG_XENLINUX"];
            xen.iter().any(|name| set(name)) && !set("CONFIG_PARAVIRT")
        }
        None => kernel.version.ends_with("xen") && !kernel.has_virtio_blk,
    }
}
