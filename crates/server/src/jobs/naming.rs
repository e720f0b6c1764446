//! Names and lines of what a machine says of itself: nothing in them may harm a path, a line or a terminal.

use data_encoding::HEXLOWER;
use wire::inventory::{Disk, Dmi, Inventory};

/// Longest name of a guest that is made up here.
const MAX_NAME_LEN: usize = 64;
/// Longest name of a network.
const MAX_NETWORK_LEN: usize = 128;
/// What vendors leave in SMBIOS fields that they did not fill, in lower case.
const FILLERS: &[&str] = &[
    "",
    "0",
    "0123456789",
    "123456789",
    "default string",
    "n/a",
    "none",
    "not applicable",
    "not specified",
    "o.e.m.",
    "serial number",
    "system manufacturer",
    "system product name",
    "system serial number",
    "to be filled by o.e.m.",
    "unknown",
];

/// One line of at most so many characters, without control characters.
pub(crate) fn safe_text(text: &str, max_chars: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(max_chars).map(clean).collect()
}

/// A name that is safe as a file's and a domain's: letters, digits, dots, dashes, underscores; empty if nothing is left.
pub(crate) fn safe_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches(|c| matches!(c, '-' | '.'));
    let cut: String = name.chars().take(MAX_NAME_LEN).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// A network's name as it may stand in a rule; `None` for one that cannot.
pub(crate) fn safe_network(text: &str) -> Option<&str> {
    let wrong = |c: char| c.is_control() || c == ':';
    (!text.is_empty() && text.len() <= MAX_NETWORK_LEN && !text.contains(wrong)).then_some(text)
}

fn filled(text: &str) -> Option<&str> {
    let text = text.trim();
    (!FILLERS.contains(&text.to_ascii_lowercase().as_str())).then_some(text)
}

fn dmi_words(dmi: &Dmi) -> impl Iterator<Item = &str> {
    [&dmi.system_vendor, &dmi.product_name, &dmi.product_serial]
        .into_iter()
        .filter_map(|text| filled(text))
}

/// Name of a guest whose machine was not given one.
pub(crate) fn generated_name(inventory: &Inventory) -> String {
    let words: Vec<&str> = inventory.dmi.iter().flat_map(dmi_words).collect();
    let name = safe_name(&words.join("-"));
    if name.is_empty() {
        let id = inventory.machine_id.get(..4).unwrap_or_default();
        format!("machine-{}", HEXLOWER.encode(id))
    } else {
        name
    }
}

/// Vendor, product and serial, for people; `label` where there are none.
pub(crate) fn machine_line(inventory: &Inventory, label: &str) -> String {
    const MAX: usize = 200;
    let words: Vec<&str> = inventory.dmi.iter().flat_map(dmi_words).collect();
    if words.is_empty() {
        safe_text(label, MAX)
    } else {
        safe_text(&words.join(" "), MAX)
    }
}

/// Vendor, model and serial of a disk.
pub(crate) fn disk_model(disk: &Disk) -> String {
    let words = [&disk.vendor, &disk.model, &disk.serial];
    let words: Vec<&str> = words.into_iter().filter_map(|text| filled(text)).collect();
    safe_text(&words.join(" "), 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_folder() {
        assert_eq!(safe_name("../../etc/passwd"), "etc-passwd");
        assert_eq!(safe_name("-x\n y"), "x-y");
        assert_eq!(safe_name("web01.example"), "web01.example");
        assert_eq!(safe_name("///"), "");
        assert_eq!(safe_name(&"a".repeat(500)).len(), MAX_NAME_LEN);
        assert_eq!(safe_text("a\x1b[31m\nb", 100), "a [31m b");
    }

    #[test]
    fn a_machine_without_a_name_is_called_by_its_plate() {
        let mut inventory = Inventory {
            machine_id: vec![0xab; 32],
            dmi: Some(Dmi {
                system_vendor: "Dell Inc.".into(),
                product_name: "PowerEdge R740".into(),
                product_serial: "To Be Filled By O.E.M.".into(),
                ..Dmi::default()
            }),
            ..Inventory::default()
        };
        assert_eq!(generated_name(&inventory), "Dell-Inc.-PowerEdge-R740");
        assert_eq!(machine_line(&inventory, "x"), "Dell Inc. PowerEdge R740");
        inventory.dmi = None;
        assert_eq!(generated_name(&inventory), "machine-abababab");
        assert_eq!(machine_line(&inventory, "x"), "x");
    }
}
