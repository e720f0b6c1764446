//! Whole targets: from `prepare` to the placed result, every refusal, and what is left after each kind of end.

mod child;
mod libvirt;
mod local;
mod qemu;

use std::fs;
use std::path::Path;

use image::Preallocation;
use types::{GuestCaps, Machine};

use crate::domain::samples::{self, Sample};
use crate::{Error, Finished, Plan, Result, Target, TargetKind, TargetOptions};

const MIB: u64 = 1 << 20;

/// A sample machine with small disks.
fn small(mut sample: Sample) -> Sample {
    for disk in &mut sample.machine.disks {
        disk.virtual_size = 4 * MIB;
    }
    sample
}

fn sample() -> Sample {
    small(samples::bios())
}

fn local(dir: &Path) -> TargetOptions {
    TargetOptions {
        preallocation: Preallocation::Sparse,
        ..TargetOptions::new(
            TargetKind::Local {
                dir: dir.to_owned(),
                nvram: false,
            },
            "",
        )
    }
}

fn plan(machine: &Machine) -> Plan<'_> {
    Plan {
        machine,
        caps: None,
        estimated_bytes: vec![MIB; machine.disks.len()],
    }
}

fn finished<'a>(machine: &'a Machine, caps: &'a GuestCaps) -> Finished<'a> {
    Finished {
        machine,
        caps,
        guest: None,
        boot_options: &[],
    }
}

/// Creates every disk of the machine with a little data in it.
fn write_disks(target: &mut dyn Target, machine: &Machine) {
    for (index, disk) in machine.disks.iter().enumerate() {
        let sink = target
            .create_disk(u32::try_from(index).unwrap(), disk.virtual_size)
            .unwrap();
        let granule = vec![0xa5; usize::try_from(sink.granularity()).unwrap()];
        sink.write_at(&granule, 0).unwrap();
        sink.finish().unwrap();
    }
}

/// The target for options with a name of their own, or with this one.
fn prepare(options: &TargetOptions, name: &str) -> Result<Box<dyn Target>> {
    let name = if options.name.is_empty() {
        name
    } else {
        &options.name
    };
    crate::prepare(TargetOptions {
        name: name.to_owned(),
        ..options.clone()
    })
}

/// The whole way of one conversion.
fn convert(options: &TargetOptions, sample: &Sample) -> Result<crate::Placed> {
    convert_with(options, sample, &[])
}

/// The same with a boot menu.
fn convert_with(
    options: &TargetOptions,
    sample: &Sample,
    boot_options: &[Vec<u8>],
) -> Result<crate::Placed> {
    let mut target = prepare(options, &sample.name)?;
    target.check(&plan(&sample.machine))?;
    write_disks(target.as_mut(), &sample.machine);
    target.finalise(&Finished {
        guest: sample.guest.as_ref(),
        boot_options,
        ..finished(&sample.machine, &sample.caps)
    })
}

/// A menu of two systems.
fn menu() -> Vec<Vec<u8>> {
    ["debian", "Windows Boot Manager"]
        .map(|name| crate::nvram::tests::option(name, b""))
        .into()
}

/// A UEFI guest without Secure Boot and TPM.
fn uefi() -> Sample {
    let mut sample = small(samples::uefi());
    sample.machine.secure_boot = false;
    sample.machine.tpm = false;
    sample
}

/// The menu in a file of variables.
fn menu_of(file: &Path) -> Vec<Vec<u8>> {
    uefi::menu::read(&fs::read(file).unwrap()).unwrap()
}

/// The error of `prepare` or of the first `check`, whichever refuses.
fn refusal(options: &TargetOptions, sample: &Sample) -> Error {
    match prepare(options, &sample.name) {
        Ok(mut target) => target.check(&plan(&sample.machine)).unwrap_err(),
        Err(error) => error,
    }
}

/// Names in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The error with its causes, as the command line prints it.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
