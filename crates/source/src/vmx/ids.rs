//! Identities as VMware writes them.

/// `uuid.bios`: sixteen bytes in hexadecimal with any punctuation, as lower case with dashes.
pub(crate) fn uuid(text: &str) -> Option<String> {
    let punctuation = |c: char| matches!(c, '-' | ' ' | '{' | '}');
    let digits: String = text.chars().filter(|c| !punctuation(*c)).collect();
    let digits = digits.to_ascii_lowercase();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (first, rest) = digits.split_at(8);
    let groups: Vec<&str> = [(0, 4), (4, 8), (8, 12), (12, 24)]
        .iter()
        .filter_map(|&(start, end)| rest.get(start..end))
        .collect();
    Some(format!("{first}-{}", groups.join("-")))
}

/// `vm.genid` and `vm.genidX`: the sixteen bytes of the generation id as two signed decimal numbers, little-endian;
/// the guest reads them as a GUID, whose first three fields are little-endian too (Microsoft, "Virtual Machine
/// Generation ID", 2012).
pub(crate) fn genid(low: i64, high: i64) -> String {
    let low = low.cast_unsigned();
    let [a, b, c, d, e, f, g, h] = high.to_le_bytes();
    format!(
        "{:08x}-{:04x}-{:04x}-{a:02x}{b:02x}-{c:02x}{d:02x}{e:02x}{f:02x}{g:02x}{h:02x}",
        low & 0xffff_ffff,
        (low >> 32) & 0xffff,
        low >> 48
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bios_uuid_is_read_with_vmwares_spaces() {
        assert_eq!(
            uuid("56 4D 2b a1 7a c2 4c 1e-8b 8e 4f 1a b1 0c a9 d2").as_deref(),
            Some("564d2ba1-7ac2-4c1e-8b8e-4f1ab10ca9d2")
        );
        for bad in [
            "",
            "56 4d",
            "xx 4d 2b a1 7a c2 4c 1e-8b 8e 4f 1a b1 0c a9 d2",
        ] {
            assert_eq!(uuid(bad), None, "{bad}");
        }
    }

    /// The expected texts are what virt-v2v 2.2 prints for these numbers.
    #[test]
    fn a_generation_id_is_the_guid_that_the_guest_sees() {
        assert_eq!(
            genid(-8_536_691_797_830_587_195, -1_723_453_263_670_062_919),
            "09512cc5-940a-8987-b950-f54f631015e8"
        );
        assert_eq!(genid(0, 12), "00000000-0000-0000-0c00-000000000000");
    }
}
