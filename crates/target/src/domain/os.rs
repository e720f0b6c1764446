//! `<os>` of a domain: the chipset and the firmware, chosen by libvirt or named by its files.

use types::{Firmware, MachineType};

use crate::domain::platform::Platform;
use crate::domain::xml::{Element, element};
use crate::domain::{DomainSpec, devices};
use crate::{NvramPaths, Result};

pub(super) fn os(spec: &DomainSpec<'_>, platform: Platform, has_smbios: bool) -> Result<Element> {
    let machine = match platform.machine {
        MachineType::I440fx => "pc",
        MachineType::Q35 => "q35",
        MachineType::Virt => "virt",
    };
    let kind = element("type")
        .attr("arch", platform.arch)
        .attr("machine", machine)
        .text("hvm");
    let smbios = has_smbios.then(|| element("smbios").attr("mode", "sysinfo"));
    if platform.firmware == Firmware::Bios {
        return Ok(element("os").child(kind).children(smbios));
    }
    if let Some(nvram) = &spec.nvram {
        let flash = own_flash(nvram, platform)?;
        return Ok(element("os").child(kind).children(flash).children(smbios));
    }
    let os = element("os").attr("firmware", "efi").child(kind);
    if platform.arch != "x86_64" {
        return Ok(os.children(smbios));
    }
    // Both are said, because a host's first choice may have Secure Boot enforced: a guest without signed boot
    // files would not start there.
    let enabled = if platform.secure_boot { "yes" } else { "no" };
    let feature = |name: &str| {
        element("feature")
            .attr("enabled", enabled)
            .attr("name", name)
    };
    let features = element("firmware")
        .child(feature("enrolled-keys"))
        .child(feature("secure-boot"));
    Ok(os.child(features).children(smbios))
}

/// The firmware by its files, which go together: variables that were made from one template are no good to another program.
fn own_flash(nvram: &NvramPaths, platform: Platform) -> Result<[Element; 2]> {
    let secure = if platform.secure_boot { "yes" } else { "no" };
    let loader = element("loader")
        .attr("readonly", "yes")
        .attr("secure", secure)
        .attr("type", "pflash")
        .text(devices::utf8(&nvram.code)?);
    let variables = element("nvram")
        .attr("template", devices::utf8(&nvram.template)?)
        .text(devices::utf8(&nvram.file)?);
    Ok([loader, variables])
}
