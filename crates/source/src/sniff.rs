//! Names what a file looks like, for messages when it is not what was expected.

/// First bytes of formats that people hand in by mistake.
const SIGNATURES: [(&[u8], &str); 10] = [
    (&[0x1f, 0x8b], "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"PK\x03\x04", "zip"),
    (b"BZh", "bzip2"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"KDMV", "VMDK disk image"),
    (b"# Disk DescriptorFile", "VMDK descriptor"),
    (b"QFI\xfb", "qcow2 disk image"),
    (b"vhdxfile", "VHDX disk image"),
];

/// Number of names at the front of [`SIGNATURES`] that are compressions or archives.
const ARCHIVES: usize = 6;

/// What a file that is no tar archive looks like, as the end of a sentence.
pub(crate) fn not_a_tar(head: &[u8]) -> String {
    let expected = "expected a tar archive, found";
    if head.is_empty() {
        return format!("{expected} an empty file");
    }
    let found = SIGNATURES
        .iter()
        .position(|(magic, _)| head.starts_with(magic));
    match found.and_then(|index| SIGNATURES.get(index).map(|(_, name)| (index, *name))) {
        Some((index, name)) if index < ARCHIVES => {
            format!("{expected} {name} data, which is not supported here")
        }
        Some((_, name)) => format!("{expected} a {name}; use -i disk for it"),
        None if head.iter().all(|&byte| byte == 0) => format!("{expected} only zeroes"),
        None => format!("{expected} bytes of no known format"),
    }
}

/// True when the bytes begin like an XML document in UTF-8 or UTF-16.
pub(crate) fn is_xml(head: &[u8]) -> bool {
    if head.starts_with(b"\xff\xfe<\0") || head.starts_with(b"\xfe\xff\0<") {
        return true;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    text.trim_ascii_start().first() == Some(&b'<')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_format() {
        assert!(not_a_tar(&[0x1f, 0x8b, 8, 0]).contains("gzip"));
        assert!(not_a_tar(b"PK\x03\x04rest").contains("zip"));
        assert!(not_a_tar(b"KDMV").contains("-i disk"));
        assert!(not_a_tar(&[0; 512]).contains("zeroes"));
        assert!(not_a_tar(b"").contains("empty"));
        assert!(not_a_tar(b"hello").contains("no known format"));
    }

    #[test]
    fn xml_is_known_by_its_first_character() {
        for head in [
            &b"<?xml"[..],
            b"\xef\xbb\xbf <e/>",
            b"\n<Envelope",
            b"\xff\xfe<\0?\0",
        ] {
            assert!(is_xml(head), "{head:?}");
        }
        assert!(!is_xml(b"vm.ovf\0\0"));
    }
}
