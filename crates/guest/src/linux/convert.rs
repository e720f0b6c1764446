//! Conversion of a Linux guest: plan, refuse what cannot succeed, then a table of named steps.
//!
//! Everything that can fail for a reason known beforehand (hibernation, space in /boot) fails while planning, before
//! the first change. No program of the guest is run.

use std::collections::BTreeMap;

use types::{BlockBus, BootEntry, ConvertOptions, ConvertOutcome, GuestInfo, Space, StorageMap};

use crate::linux::caps;
use crate::linux::customise::{self, GuestCode};
use crate::linux::devices::Devices;
use crate::linux::hibernation;
use crate::linux::modules::Modules;
use crate::linux::steps::{STEPS, Step, default_kernel, firstboot, initramfs, network};
use crate::payload::Payload;
use crate::{Error, ErrorKind, Lent, Recorder, Result, Root};

/// Small files are all that conversion adds outside /boot and the ESP.
const ROOT_FREE_MIN: u64 = 4 << 20;

/// What the steps work with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) root: &'a Root,
    pub(crate) guest: &'a GuestInfo,
    pub(crate) options: &'a ConvertOptions,
    pub(crate) devices: Devices<'a>,
    pub(crate) recorder: Recorder<'a>,
    /// Modules of each kernel.
    pub(crate) modules: BTreeMap<String, Modules>,
    /// What each kernel's initramfs will get.
    pub(crate) initramfs: Vec<initramfs::Plan>,
    /// Names for the NICs.
    pub(crate) network: network::Plan,
    /// The bus that the disks will be on.
    pub(crate) block_bus: BlockBus,
    /// The kernel that has to be the default one, because it starts from that bus; empty without any kernel.
    pub(crate) start_kernel: String,
    /// `vd` when the disks will be virtio-blk, else `sd`.
    pub(crate) disk_prefix: &'static str,
    /// Scripts for the guest's first boot.
    pub(crate) firstboot: firstboot::Scripts,
    /// Another default kernel than the guest has; `guest` names it first already.
    pub(crate) default_kernel: Option<default_kernel::Choice>,
    /// For the firmware's boot menu.
    pub(crate) boot_entries: Vec<BootEntry>,
    /// Files of the host; [`Recorder::install`] copies one into the guest.
    pub(crate) payload: &'a Payload,
    /// Runs the guest's programs, where that is possible.
    pub(crate) guest_code: Option<&'a dyn GuestCode>,
}

/// See [`crate::convert`].
pub(crate) fn convert(
    root: &Root,
    guest: &GuestInfo,
    storage: &StorageMap,
    options: &ConvertOptions,
    lent: &Lent<'_>,
    step: &mut dyn FnMut(&str),
) -> Result<ConvertOutcome> {
    hibernation::refuse_hibernated(storage)?;
    hibernation::refuse_hibernated_files(root, &guest.root)?;
    let free = root.free_bytes("/")?;
    if free < ROOT_FREE_MIN {
        let message = format!(
            "expected {} KiB free in the guest's root file system, found {}",
            ROOT_FREE_MIN >> 10,
            free >> 10
        );
        return Err(Error::new(ErrorKind::NoSpace, message).at("/"));
    }
    let before = free_bytes(root, guest);
    let choice = default_kernel::choose(root, guest, options);
    let guest = &default_kernel::with_choice(guest.clone(), choice.as_ref());
    let mut context = Context::new(root, guest, storage, options, lent);
    context.default_kernel = choice;
    context.recorder.begin("plan");
    context.network = network::plan(&context);
    initramfs::plan(&mut context)?;
    default_kernel::settle(&mut context);
    customise::plan(&context)?;
    for entry in STEPS {
        take(&mut context, entry, step)?;
    }
    let caps = caps::caps(&mut context);
    let boot_entries = context.boot_entries;
    let (changes, warnings, steps) = context.recorder.finish();
    Ok(ConvertOutcome {
        caps,
        changes,
        warnings,
        steps,
        boot_entries,
        space: taken(root, before),
    })
}

/// Free bytes of each file system of the guest.
fn free_bytes(root: &Root, guest: &GuestInfo) -> Vec<(String, u64)> {
    let mounts = guest.mountpoints.iter();
    mounts
        .filter_map(|mount| Some((mount.path.clone(), root.free_bytes(&mount.path).ok()?)))
        .collect()
}

/// What became of them; those that nothing was taken from are left out, but for the two that fill up.
fn taken(root: &Root, before: Vec<(String, u64)>) -> Vec<Space> {
    let spaces = before.into_iter().map(|(path, found)| Space {
        needed: found.saturating_sub(root.free_bytes(&path).unwrap_or(found)),
        found,
        path,
    });
    spaces
        .filter(|space| space.needed > 0 || ["/", "/boot"].contains(&space.path.as_str()))
        .collect()
}

/// Takes one step. Whether it applies is asked only now: it may because of what those before it did.
fn take(context: &mut Context<'_>, entry: &Step, step: &mut dyn FnMut(&str)) -> Result<()> {
    context.recorder.begin(entry.name);
    if (entry.applies)(context) {
        step(entry.name);
        match (entry.apply)(context) {
            Err(error) if !entry.essential => context.recorder.not_finished(&error),
            other => other?,
        }
    }
    context.recorder.end();
    Ok(())
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        root: &'a Root,
        guest: &'a GuestInfo,
        storage: &'a StorageMap,
        options: &'a ConvertOptions,
        lent: &'a Lent<'a>,
    ) -> Self {
        let modules: BTreeMap<_, _> = guest
            .kernels
            .iter()
            .map(|kernel| (kernel.version.clone(), Modules::read(root, &kernel.version)))
            .collect();
        Self {
            root,
            guest,
            options,
            devices: Devices::new(root, storage).near(&guest.root),
            recorder: Recorder::new(root),
            modules,
            initramfs: Vec::new(),
            network: network::Plan::default(),
            // These three are decided while planning: [`caps::Choice`].
            block_bus: BlockBus::Sata,
            start_kernel: String::new(),
            disk_prefix: "sd",
            firstboot: firstboot::Scripts::default(),
            default_kernel: None,
            boot_entries: Vec::new(),
            payload: &lent.payload,
            guest_code: lent.guest_code,
        }
    }

    /// Mount point of the ESP.
    pub(crate) fn esp(&self) -> Option<String> {
        super::boot::esp(self.root, &self.guest.mountpoints)
    }
}
