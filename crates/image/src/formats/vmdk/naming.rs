//! Names that VMware gives to the files of a disk, for hints: data files are opened through their descriptor.

/// What is put before `.vmdk` of the descriptor's name to name its data file.
const SUFFIXES: [&str; 6] = ["-flat", "-delta", "-sesparse", "-rdm", "-rdmp", "-ctk"];
/// The same before a number: `-s001`, `-f001`.
const NUMBERED: [&str; 2] = ["-s", "-f"];

/// The name of the descriptor whose data file has the name that ends `label`; `None` for a name that says nothing.
pub(super) fn descriptor_of(label: &str) -> Option<String> {
    let name = label.rsplit(['/', '\\']).next().unwrap_or(label);
    let at = name.len().checked_sub(".vmdk".len())?;
    let (stem, extension) = (name.get(..at)?, name.get(at..)?);
    if !extension.eq_ignore_ascii_case(".vmdk") {
        return None;
    }
    let cut = |suffix: &str| {
        let at = stem.len().checked_sub(suffix.len())?;
        let (rest, end) = (stem.get(..at)?, stem.get(at..)?);
        end.eq_ignore_ascii_case(suffix).then_some(rest)
    };
    let digits = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = (stem.len() - digits.len() == 3)
        .then(|| {
            NUMBERED.iter().find_map(|suffix| {
                let at = digits.len().checked_sub(suffix.len())?;
                let (rest, end) = (digits.get(..at)?, digits.get(at..)?);
                end.eq_ignore_ascii_case(suffix).then_some(rest)
            })
        })
        .flatten();
    let disk = SUFFIXES.into_iter().find_map(cut).or(numbered)?;
    (!disk.is_empty()).then(|| format!("{disk}{extension}"))
}

/// The hint for a data file that was given itself.
pub(super) fn hint(label: &str) -> String {
    match descriptor_of(label) {
        Some(name) => format!("hint: open its descriptor, {name}"),
        None => "hint: open the descriptor that names it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_files_lead_to_their_descriptor() {
        for (file, descriptor) in [
            ("/vmfs/vm/disk-flat.vmdk", Some("disk.vmdk")),
            ("vm-000001-delta.vmdk", Some("vm-000001.vmdk")),
            ("vm-000001-sesparse.vmdk", Some("vm-000001.vmdk")),
            ("vm-s012.vmdk", Some("vm.vmdk")),
            ("vm-000002-s001.VMDK", Some("vm-000002.VMDK")),
            ("vm-f001.vmdk", Some("vm.vmdk")),
            ("ü-rdmp.vmdk", Some("ü.vmdk")),
            ("vm-000001.vmdk", None),
            ("vm-s1.vmdk", None),
            ("-flat.vmdk", None),
            ("flat.vmdk", None),
            ("x-flat.raw", None),
            ("", None),
        ] {
            assert_eq!(descriptor_of(file).as_deref(), descriptor, "{file}");
        }
    }
}
