//! What a driver's own file says: the processor it is made for (Microsoft PE format), and by which digest it and its
//! catalog are signed (PKCS #7, RFC 2315 section 9.1).
//!
//! Windows Vista, 7 and their servers know SHA-2 signatures of drivers only with an update (KB4474419).

/// Largest .sys or .cat that is looked into: those of virtio-win have less than 1 MiB.
pub(crate) const FILE_MAX: u64 = 16 << 20;

/// Digest of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    /// SHA-1, or MD5.
    Sha1,
    /// SHA-256 and its relatives.
    Sha2,
}

/// What a .sys says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// Processor as decorations spell it; `None` for one that Windows does not run on any more.
    pub(crate) arch: Option<&'static str>,
    /// Digest of the signature in it.
    pub(crate) digest: Option<Digest>,
}

impl Image {
    /// `None` when it is no program for Windows.
    pub(crate) fn read(file: &[u8]) -> Option<Self> {
        if file.get(..2)? != b"MZ" {
            return None;
        }
        let header = file.get(u32_at(file, 0x3c)? as usize..)?;
        if header.get(..4)? != b"PE\0\0" {
            return None;
        }
        let arch = match u16_at(header, 4)? {
            0x014c => Some("x86"),
            0x8664 => Some("amd64"),
            0xaa64 => Some("arm64"),
            _ => None,
        };
        let digest = certificate(file, header).and_then(digest);
        Some(Self { arch, digest })
    }
}

/// The signature in a program: WIN_CERTIFICATE of its security directory, whose address is a place in the file.
fn certificate<'a>(file: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    /// Of the COFF header with its signature.
    const OPTIONAL: usize = 24;
    /// IMAGE_DIRECTORY_ENTRY_SECURITY, 8 bytes each.
    const SECURITY: usize = 4 * 8;
    /// dwLength, wRevision, wCertificateType.
    const CERTIFICATE_HEADER: usize = 8;
    let directories = match u16_at(header, OPTIONAL)? {
        0x10b => OPTIONAL + 96,
        0x20b => OPTIONAL + 112,
        _ => return None,
    };
    let at = u32_at(header, directories + SECURITY)? as usize;
    let len = u32_at(header, directories + SECURITY + 4)? as usize;
    let certificate = file.get(at..at.checked_add(len)?)?;
    certificate.get(CERTIFICATE_HEADER..)
}

/// Digest by which a PKCS #7 SignedData, as a catalog is one, is signed.
pub(crate) fn digest(der: &[u8]) -> Option<Digest> {
    const SEQUENCE: u8 = 0x30;
    const SET: u8 = 0x31;
    const INTEGER: u8 = 0x02;
    const OID: u8 = 0x06;
    const CONTEXT_0: u8 = 0xa0;
    /// 1.2.840.113549.1.7.2
    const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    /// 1.3.14.3.2.26
    const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
    /// 1.2.840.113549.2.5
    const MD5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05];
    /// 2.16.840.1.101.3.4.2: SHA-256, 384 and 512 are .1 to .3 of it.
    const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

    let (content_info, _) = element(der, SEQUENCE)?;
    let (kind, rest) = element(content_info, OID)?;
    if kind != SIGNED_DATA {
        return None;
    }
    let (content, _) = element(rest, CONTEXT_0)?;
    let (signed, _) = element(content, SEQUENCE)?;
    let (_, rest) = element(signed, INTEGER)?;
    let (mut algorithms, _) = element(rest, SET)?;
    let mut found = None;
    while let Some((algorithm, rest)) = element(algorithms, SEQUENCE) {
        match element(algorithm, OID)?.0 {
            SHA1 | MD5 => return Some(Digest::Sha1),
            oid if oid.starts_with(SHA2) => found = Some(Digest::Sha2),
            _ => {}
        }
        algorithms = rest;
    }
    found
}

/// Content of the DER element of this tag (X.690), and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = bytes
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte));
            (len, rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(len))?
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
    const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, len[0], len[1]], content.as_slice()].concat()
    }

    /// The beginning of a catalog that is signed so.
    pub(crate) fn catalog(digest: Digest) -> Vec<u8> {
        let oid = match digest {
            Digest::Sha1 => SHA1,
            Digest::Sha2 => SHA256,
        };
        let algorithm = tlv(0x30, &[&tlv(6, &[oid]), &[5, 0]]);
        let signed = tlv(0x30, &[&[2, 1, 1], &tlv(0x31, &[&algorithm]), &[0x30, 0]]);
        let kind = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
        tlv(0x30, &[&tlv(6, &[&kind]), &tlv(0xa0, &[&signed])])
    }

    /// A driver of nothing but headers.
    pub(crate) fn image(arch: &str, signed: Option<Digest>) -> Vec<u8> {
        let (machine, magic, directories) = match arch {
            "x86" => (0x14c_u16, 0x10b_u16, 96),
            "amd64" => (0x8664, 0x20b, 112),
            _ => (0xaa64, 0x20b, 112),
        };
        let mut file = vec![0; 0x200];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x80;
        file[0x80..0x84].copy_from_slice(b"PE\0\0");
        file[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        file[0x98..0x9a].copy_from_slice(&magic.to_le_bytes());
        if let Some(signed) = signed {
            let certificate = [&[0; 8], catalog(signed).as_slice()].concat();
            let at = 0x98 + directories + 32;
            file[at..at + 4].copy_from_slice(&0x200_u32.to_le_bytes());
            let len = u32::try_from(certificate.len()).unwrap();
            file[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
            file.extend(certificate);
        }
        file
    }

    #[test]
    fn digests_and_processors_are_read() {
        for digest in [Digest::Sha1, Digest::Sha2] {
            assert_eq!(super::digest(&catalog(digest)), Some(digest));
            for arch in ["x86", "amd64", "arm64"] {
                let image = Image::read(&image(arch, Some(digest))).unwrap();
                assert_eq!((image.arch, image.digest), (Some(arch), Some(digest)));
            }
        }
        assert_eq!(Image::read(&image("x86", None)).unwrap().digest, None);
        assert!(Image::read(b"MZ").is_none() && Image::read(&[0; 512]).is_none());
    }

    #[test]
    fn cut_and_flipped_files_do_not_panic() {
        let whole = image("amd64", Some(Digest::Sha2));
        for at in 0..whole.len() {
            Image::read(&whole[..at]);
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                Image::read(&flipped);
            }
        }
    }
}
