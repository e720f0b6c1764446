//! Conversion of a Windows guest: plan, refuse what cannot succeed, then a table of named steps; the hives are written
//! last.

use types::{BootEntry, ConvertOptions, ConvertOutcome, GuestInfo, StorageMap, WindowsInfo};

use crate::payload::Payload;
use crate::windows::hives::Registry;
use crate::windows::steps::{STEPS, Step};
use crate::windows::{caps, drivers, firstboot, hibernation, steps};
use crate::{BootVolume, Error, Lent, Recorder, Result, Root};

/// What the steps work with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) root: &'a Root,
    pub(crate) guest: &'a GuestInfo,
    pub(crate) windows: &'a WindowsInfo,
    pub(crate) options: &'a ConvertOptions,
    pub(crate) storage: &'a StorageMap,
    pub(crate) recorder: Recorder<'a>,
    /// SYSTEM and SOFTWARE.
    pub(crate) registry: Registry,
    /// Drivers that suit the guest.
    pub(crate) drivers: drivers::Plan,
    /// Scripts for the guest's first boot.
    pub(crate) firstboot: firstboot::Scripts,
    /// Files of the host.
    pub(crate) payload: &'a Payload,
    /// Directory of our programs for Windows, outside of the guest: `v2v-firstboot-x86.exe`, `v2v-firstboot-amd64.exe`.
    pub(crate) programs: Option<&'a std::path::Path>,
    /// The volume that it boots from, if that is not its own.
    pub(crate) boot: Option<&'a BootVolume>,
    /// Entries for the boot menu of the new machine's firmware.
    pub(crate) boot_entries: Vec<BootEntry>,
}

impl<'a> Context<'a> {
    /// Nothing planned yet, and nothing lent but the payload.
    pub(crate) fn new(
        root: &'a Root,
        guest: &'a GuestInfo,
        windows: &'a WindowsInfo,
        storage: &'a StorageMap,
        options: &'a ConvertOptions,
        payload: &'a Payload,
    ) -> Result<Self> {
        Ok(Self {
            root,
            guest,
            windows,
            options,
            storage,
            recorder: Recorder::new(root),
            registry: Registry::open(root, &windows.system_root)?,
            drivers: drivers::Plan::default(),
            firstboot: firstboot::Scripts::default(),
            payload,
            programs: None,
            boot: None,
            boot_entries: Vec::new(),
        })
    }
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
    let windows = guest
        .windows
        .as_ref()
        .ok_or_else(|| Error::corrupt("a Windows guest was not described"))?;
    let mut context = Context::new(root, guest, windows, storage, options, &lent.payload)?;
    context.programs = lent.programs;
    context.boot = lent.boot;
    context.registry.check_space(root)?;
    context.recorder.begin("plan");
    hibernation::check(&context)?;
    steps::customise::plan(&context)?;
    context.drivers = drivers::plan(&context)?;
    for warning in context.drivers.warnings.clone() {
        context.recorder.warn(warning);
    }
    for entry in STEPS {
        take(&mut context, entry, step)?;
    }
    let caps = caps::caps(&context);
    let boot_entries = std::mem::take(&mut context.boot_entries);
    let (changes, warnings, steps) = context.recorder.finish();
    Ok(ConvertOutcome {
        caps,
        changes,
        warnings,
        steps,
        boot_entries,
        space: Vec::new(),
    })
}

/// Takes one step.
fn take(context: &mut Context<'_>, entry: &Step, step: &mut dyn FnMut(&str)) -> Result<()> {
    context.recorder.begin(entry.name);
    step(entry.name);
    match (entry.apply)(context) {
        Err(error) if !entry.essential => context.recorder.not_finished(&error),
        other => other?,
    }
    context.recorder.end();
    Ok(())
}
