//! Fuzz targets, one for each parser of foreign bytes. The programs in `bin/` hand libFuzzer's bytes to the functions
//! here; `cargo xtask fuzz` builds and runs them. Being functions, they are linted like everything else, and the test
//! below runs them on the seeds and on every finding of the past (`seeds/TARGET/`, `findings/TARGET/`).
//!
//! A target fails by a panic, a hang, or too much memory, which libFuzzer notices; and by the assertions here: the
//! extents of a disk cover it exactly, what they call zero reads as zero, and a byte does not depend on the size of
//! the read that fetched it.

mod disk;
mod hive;
mod hive_log;
mod nvram;
pub mod paged;
mod protocol;

use image::formats::Format;

/// What libFuzzer calls.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("vmdk", vmdk),
    ("vmdk_descriptor", vmdk_descriptor),
    ("qcow2", qcow2),
    ("qcow1", qcow1),
    ("qed", qed),
    ("vhdx", vhdx),
    ("vhd", vhd),
    ("vdi", vdi),
    ("parallels", parallels),
    ("ovf", ovf),
    ("manifest", manifest),
    ("tar", tar),
    ("hyperv_xml", hyperv_xml),
    ("vmcx", vmcx),
    ("vbox", vbox),
    ("nvram", nvram),
    ("load_option", load_option),
    ("packed", packed),
    ("zip", zip),
    ("hive", hive),
    ("vmx", vmx),
    ("libvirtxml", libvirtxml),
    ("join", join),
    ("chunk", chunk),
    ("inventory", inventory),
    ("hive_log", hive_log),
    ("inf", inf),
    ("kmod_index", kmod_index),
    ("bcd", bcd),
    ("ntfs", ntfs),
];

/// A VMDK in one file.
pub fn vmdk(data: &[u8]) {
    disk::exercise(Format::Vmdk, data);
}

/// A VMDK descriptor; what follows its first zero byte is what every extent file holds.
pub fn vmdk_descriptor(data: &[u8]) {
    disk::exercise_with_files(Format::Vmdk, data);
}

/// qcow2, versions 2 and 3.
pub fn qcow2(data: &[u8]) {
    disk::exercise(Format::Qcow2, data);
}

/// qcow version 1.
pub fn qcow1(data: &[u8]) {
    disk::exercise(Format::Qcow1, data);
}

/// QED.
pub fn qed(data: &[u8]) {
    disk::exercise(Format::Qed, data);
}

/// VHDX, whose structures are a MiB apart: the input is pages and their places, see [`paged`].
pub fn vhdx(data: &[u8]) {
    disk::exercise(Format::Vhdx, &paged::expand(data));
}

/// VHD.
pub fn vhd(data: &[u8]) {
    disk::exercise(Format::Vpc, data);
}

/// VDI.
pub fn vdi(data: &[u8]) {
    disk::exercise(Format::Vdi, data);
}

/// Parallels.
pub fn parallels(data: &[u8]) {
    disk::exercise(Format::Parallels, data);
}

/// An OVF descriptor.
pub fn ovf(data: &[u8]) {
    source::fuzzing::ovf(data);
}

/// An OVF manifest.
pub fn manifest(data: &[u8]) {
    source::fuzzing::manifest(data);
}

/// A tar archive.
pub fn tar(data: &[u8]) {
    source::fuzzing::archive(data);
}

/// The old configuration of a Hyper-V machine.
pub fn hyperv_xml(data: &[u8]) {
    source::fuzzing::hyperv(data);
}

/// The binary configuration of a Hyper-V machine.
pub fn vmcx(data: &[u8]) {
    source::fuzzing::hyperv(data);
}

/// The settings of a VirtualBox machine.
pub fn vbox(data: &[u8]) {
    source::fuzzing::vbox(data);
}

/// The flash of an EFI machine of VirtualBox; one that can be written keeps what it had.
pub fn nvram(data: &[u8]) {
    source::fuzzing::nvram(data);
    nvram::extended(data);
}

/// An entry of UEFI's boot menu.
pub fn load_option(data: &[u8]) {
    nvram::load_option(data);
}

/// A gzip, xz or zstd stream, by its magic.
pub fn packed(data: &[u8]) {
    disk::unpack(data);
}

/// A zip archive.
pub fn zip(data: &[u8]) {
    source::fuzzing::archive(data);
}

/// A registry hive, or changes to a made one.
pub fn hive(data: &[u8]) {
    hive::exercise(data);
}

/// An NTFS volume as pages: free clusters lie within it, and nothing of it is used twice.
pub fn ntfs(data: &[u8]) {
    let bytes = paged::expand(data);
    let Ok(volume) = appliance::ntfs::Volume::open(bytes.as_slice(), bytes.len() as u64) else {
        return;
    };
    let total = volume.boot().clusters;
    let _ = (volume.is_dirty(), volume.is_closed(), volume.needless());
    let mut end = 0;
    let _ = volume.free(1, &mut |first, count| {
        assert!(first >= end && count > 0 && first + count <= total);
        end = first + count;
        Ok(())
    });
}

/// A `.vmx` file.
pub fn vmx(data: &[u8]) {
    let _ = source::parse_vmx(data);
}

/// The XML of a libvirt domain.
pub fn libvirtxml(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = source::parse_domain_xml(text);
    }
}

/// A join string, and what is typed in its stead: a code, a fingerprint.
pub fn join(data: &[u8]) {
    protocol::join(data);
}

/// An agent's answer to a read; the request is the first message.
pub fn chunk(data: &[u8]) {
    protocol::chunk(data);
}

/// What an agent says of its machine.
pub fn inventory(data: &[u8]) {
    protocol::inventory(data);
}

/// The transaction logs of a registry hive.
pub fn hive_log(data: &[u8]) {
    hive_log::exercise(data);
}

/// A Windows driver's .inf file.
pub fn inf(data: &[u8]) {
    guest::fuzzing::inf(data);
}

/// A binary module list of kmod.
pub fn kmod_index(data: &[u8]) {
    guest::fuzzing::kmod_index(data);
}

/// The boot configuration of a Windows.
pub fn bcd(data: &[u8]) {
    guest::probe_bcd(data);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::TARGETS;

    #[test]
    fn seeds_and_old_findings_pass() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for (name, target) in TARGETS {
            target(b"");
            for kind in ["seeds", "findings"] {
                let Ok(files) = fs::read_dir(here.join(kind).join(name)) else {
                    continue;
                };
                for file in files {
                    target(&fs::read(file.unwrap().path()).unwrap());
                    count += 1;
                }
            }
        }
        assert!(count > 0, "there are no seeds");
    }

    #[test]
    fn every_target_has_its_program() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = fs::read_to_string(here.join("Cargo.toml")).unwrap();
        for (name, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
            assert!(here.join(format!("src/bin/{name}.rs")).exists(), "{name}");
        }
        let programs = fs::read_dir(here.join("src/bin")).unwrap().count();
        assert_eq!(programs, TARGETS.len());
    }
}
