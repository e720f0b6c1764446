//! SMBIOS strings of the source (DMTF DSP0134, types 0 to 3), for software that is licensed by them: the domain's
//! `<sysinfo>` and QEMU's `-smbios`.

use types::Firmware;

use crate::domain::DomainSpec;
use crate::domain::platform::Platform;
use crate::domain::xml::{Element, element};

/// Longest string that is carried over: more than any vendor writes.
const MAX_STRING_BYTES: usize = 128;

/// One SMBIOS structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Type of the structure.
    pub(crate) number: u8,
    /// libvirt's element.
    element: &'static str,
    /// libvirt's name, QEMU's name, text.
    pub(crate) entries: Vec<(&'static str, &'static str, String)>,
}

/// What is to be carried over: structures with at least one string; none unless asked for.
pub(crate) fn strings(spec: &DomainSpec<'_>, platform: Platform) -> Vec<Table> {
    let Some(smbios) = spec
        .machine
        .details
        .smbios
        .as_ref()
        .filter(|_| spec.keep_smbios)
    else {
        return Vec::new();
    };
    let table = |number, element, entries: &[(&'static str, &'static str, &String)]| Table {
        number,
        element,
        entries: entries
            .iter()
            .filter_map(|(libvirt, qemu, text)| Some((*libvirt, *qemu, plain(text)?)))
            .collect(),
    };
    let bios = table(
        0,
        "bios",
        &[
            ("vendor", "vendor", &smbios.bios_vendor),
            ("version", "version", &smbios.bios_version),
        ],
    );
    let tables = [
        table(
            1,
            "system",
            &[
                ("manufacturer", "manufacturer", &smbios.manufacturer),
                ("product", "product", &smbios.product),
                ("version", "version", &smbios.version),
                ("serial", "serial", &smbios.serial),
                ("sku", "sku", &smbios.sku),
                ("family", "family", &smbios.family),
            ],
        ),
        table(
            2,
            "baseBoard",
            &[
                ("manufacturer", "manufacturer", &smbios.board_manufacturer),
                ("product", "product", &smbios.board_product),
                ("serial", "serial", &smbios.board_serial),
            ],
        ),
        table(
            3,
            "chassis",
            &[
                ("manufacturer", "manufacturer", &smbios.manufacturer),
                ("serial", "serial", &smbios.chassis_serial),
                ("asset", "asset", &smbios.chassis_asset),
            ],
        ),
    ];
    // A type 0 of our own would say that the firmware is no UEFI.
    let bios = (platform.firmware == Firmware::Bios).then_some(bios);
    bios.into_iter()
        .chain(tables)
        .filter(|table| !table.entries.is_empty())
        .collect()
}

/// Printable ASCII (section 6.1.3), trimmed; nothing else reaches QEMU unchanged.
fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let is_plain = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    (is_plain && (1..=MAX_STRING_BYTES).contains(&text.len())).then(|| text.to_owned())
}

/// `<sysinfo>`. libvirt wants the domain's UUID in it, if it has one at all.
pub(crate) fn sysinfo(tables: &[Table], uuid: Option<&str>) -> Option<Element> {
    let entry = |name: &'static str, text: &str| element("entry").attr("name", name).text(text);
    let structures = tables.iter().map(|table| {
        let entries = table
            .entries
            .iter()
            .map(|(name, _, text)| entry(name, text));
        let uuid = uuid.filter(|_| table.number == 1);
        element(table.element)
            .children(entries)
            .children(uuid.map(|uuid| entry("uuid", uuid)))
    });
    (!tables.is_empty()).then(|| {
        element("sysinfo")
            .attr("type", "smbios")
            .children(structures)
    })
}

/// Values of QEMU's `-smbios`; commas are doubled.
pub(crate) fn qemu_values(tables: &[Table], uuid: Option<&str>) -> Vec<String> {
    tables
        .iter()
        .map(|table| {
            let mut value = format!("type={}", table.number);
            for (_, name, text) in &table.entries {
                value.push_str(&format!(",{name}={}", text.replace(',', ",,")));
            }
            if let Some(uuid) = uuid.filter(|_| table.number == 1) {
                value.push_str(&format!(",uuid={uuid}"));
            }
            value
        })
        .collect()
}
