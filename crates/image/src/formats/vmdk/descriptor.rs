//! The descriptor: lines of text that name the subformat, the parent, the extents and the adapter
//! (VDF 1.1, The Descriptor File). It is embedded behind the sparse header or is a file of its own.
//!
//! Descriptors come in the character set of the machine that wrote them, which `encoding` names. Line ends, spaces
//! around `=`, quotes and the case of keys vary between writers.

use std::collections::BTreeMap;

use encoding_rs::Encoding;

use super::encoding::{self, Name};
use super::extent_line::ExtentLine;
use crate::{Error, ErrorKind, Result};

/// First line of every descriptor.
pub(super) const SIGNATURE: &str = "# Disk DescriptorFile";
/// `parentCID` of a disk without parent (`CID_NOPARENT`).
const NO_PARENT: u32 = u32::MAX;

/// UTF-8's byte order mark.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Extents of one disk: 16 TiB in files of 2 GB.
const MAX_EXTENTS: usize = 8192;

/// Subformats. What matters is the type of each extent; a name that is not here may mean something unheard of.
const KNOWN_SUBFORMATS: &[&str] = &[
    "monolithicSparse",
    "streamOptimized",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "2GbMaxExtentSparse",
    "2GbMaxExtentFlat",
    "fullDevice",
    "partitionedDevice",
    "vmfs",
    "vmfsPreallocated",
    "vmfsEagerZeroedThick",
    "vmfsThin",
    "vmfsSparse",
    "vmfsRaw",
    "vmfsRDM",
    "vmfsRDMP",
    "vmfsRawDeviceMap",
    "vmfsPassthroughRawDeviceMap",
    "seSparse",
    "custom",
];

/// A parsed descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// `createType`: the subformat.
    pub create_type: Option<String>,
    /// `CID`: changes with the content.
    pub cid: Option<u32>,
    /// `parentCID`, where there is a parent.
    pub parent_cid: Option<u32>,
    /// `parentFileNameHint`: the parent's file, where there is one.
    pub parent_hint: Option<String>,
    /// The extents, in disk order.
    pub extents: Vec<ExtentLine>,
    /// The disk database: `ddb.` keys without that prefix, in lower case.
    pub ddb: BTreeMap<String, String>,
    /// `encoding`: the character set as the descriptor names it.
    pub encoding: Option<String>,
    pub(super) parent_name: Option<Name>,
}

impl Descriptor {
    /// Parses the text up to the first NUL.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = text.strip_prefix(BOM).unwrap_or(text).trim_ascii_start();
        if !text
            .get(..SIGNATURE.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(SIGNATURE.as_bytes()))
        {
            let head = String::from_utf8_lossy(text.get(..96).unwrap_or(text));
            let found: String = head.chars().take(24).collect();
            return Err(Error::corrupt(format!(
                "expected a descriptor that begins with {SIGNATURE:?}, found {found:?}"
            )));
        }
        let lines = || {
            text.split(|byte| matches!(byte, b'\n' | b'\r'))
                .map(<[u8]>::trim_ascii)
        };
        let label = lines().find_map(|line| match assignment(line) {
            Some((key, value)) if key == "encoding" => std::str::from_utf8(value).ok(),
            _ => None,
        });
        let encoding = encoding::of(label, text);
        let mut this = Self {
            encoding: label.map(str::to_owned),
            ..Self::default()
        };
        for (number, line) in lines().enumerate() {
            this.line(line, encoding)
                .map_err(|e| Error::corrupt(format!("descriptor line {}: {e}", number + 1)))?;
        }
        Ok(this)
    }

    /// `ddb.adapterType`: `ide`, `buslogic`, `lsilogic`, `legacyESX`, `pvscsi`, in lower case.
    pub fn adapter_type(&self) -> Option<String> {
        self.ddb
            .get("adaptertype")
            .map(|adapter| adapter.to_ascii_lowercase())
    }

    /// `ddb.virtualHWVersion`: the version of the virtual hardware that made the disk.
    pub fn hw_version(&self) -> Option<&str> {
        self.ddb.get("virtualhwversion").map(String::as_str)
    }

    fn line(&mut self, line: &[u8], encoding: &'static Encoding) -> Result<()> {
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        if let Some(extent) = ExtentLine::parse(line, encoding)? {
            if self.extents.len() == MAX_EXTENTS {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("expected at most {MAX_EXTENTS} extents"),
                ));
            }
            self.extents.push(extent);
            return Ok(());
        }
        let Some((key, bytes)) = assignment(line) else {
            tracing::debug!(
                line = encoding::decode(line, encoding),
                "passing over a descriptor line that is neither an extent nor an assignment"
            );
            return Ok(());
        };
        let value = encoding::decode(bytes, encoding);
        match key.as_str() {
            "createtype" => self.create_type = (!value.is_empty()).then_some(value),
            "cid" => self.cid = Some(content_id(&key, &value)?),
            "parentcid" => {
                self.parent_cid = Some(content_id(&key, &value)?).filter(|cid| *cid != NO_PARENT)
            }
            "parentfilenamehint" if !value.is_empty() => {
                self.parent_hint = Some(value);
                self.parent_name = Some(Name::new(bytes, encoding));
            }
            _ => {
                if let Some(key) = key.strip_prefix("ddb.") {
                    self.ddb.insert(key.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    /// The parent's file as the delta names it: VMware's hint, or the name that VirtualBox gives to a snapshot. It
    /// writes `parentCID=ffffffff` into its deltas as into every other disk, and names the parent by
    /// `ddb.uuid.parent` alone.
    pub fn parent(&self) -> Option<String> {
        match (&self.parent_hint, self.parent_uuid(), self.parent_cid) {
            (Some(file), ..) => Some(file.clone()),
            (None, Some(uuid), _) => Some(format!("{{{uuid}}}.vmdk")),
            (None, None, Some(cid)) => Some(format!("a file with the content id {cid:08x}")),
            (None, None, None) => None,
        }
    }

    /// `ddb.uuid.parent` of VirtualBox, where there is a parent.
    pub(super) fn parent_uuid(&self) -> Option<String> {
        self.uuid("uuid.parent")
    }

    /// A UUID of the disk database in lower case without braces, unless it is all zeroes.
    pub(super) fn uuid(&self, key: &str) -> Option<String> {
        let uuid = self.ddb.get(key)?.trim_matches(['{', '}']);
        uuid.chars()
            .any(|c| !matches!(c, '0' | '-'))
            .then(|| uuid.to_ascii_lowercase())
    }

    /// Refuses a subformat that nobody knows.
    pub(super) fn check_create_type(&self) -> Result<()> {
        match self.create_type.as_deref() {
            None => {
                tracing::debug!("the descriptor has no createType");
                Ok(())
            }
            Some(name) if KNOWN_SUBFORMATS.iter().any(|known| is(name, known)) => Ok(()),
            Some(name) => Err(Error::unsupported(format!(
                "VMDK subformat {name:?} is not known"
            ))),
        }
    }

    /// Refuses an embedded descriptor that speaks of other files.
    pub(super) fn check_embedded(&self) -> Result<()> {
        self.check_create_type()?;
        match self.extents.as_slice() {
            [] => Ok(()),
            [extent] if is(&extent.kind, "SPARSE") => Ok(()),
            [extent] => Err(Error::unsupported(format!(
                "a VMDK extent of type {:?} embedded in a sparse file is not supported",
                extent.kind
            ))),
            extents => Err(Error::unsupported(format!(
                "a descriptor of {} extents embedded in one of them is not supported",
                extents.len()
            ))),
        }
    }
}

/// A line `key = value`: the key in lower case, the value without quotes.
fn assignment(line: &[u8]) -> Option<(String, &[u8])> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = line.split_at(at);
    let key = String::from_utf8_lossy(key.trim_ascii()).to_ascii_lowercase();
    Some((key, unquote(value.get(1..).unwrap_or_default())))
}

fn is(found: &str, word: &str) -> bool {
    found.eq_ignore_ascii_case(word)
}

fn unquote(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    value
        .strip_prefix(b"\"")
        .and_then(|inner| inner.strip_suffix(b"\""))
        .unwrap_or(value)
        .trim_ascii()
}

fn content_id(key: &str, value: &str) -> Result<u32> {
    let digits = value.trim_start_matches("0x");
    u32::from_str_radix(digits, 16).map_err(|_| {
        Error::corrupt(format!(
            "expected {key} of 8 hexadecimal digits, found {value:?}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn parse(text: &str) -> Descriptor {
        Descriptor::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_plain_descriptor_is_understood() {
        let text = "# Disk DescriptorFile\nversion=1\nCID=dc80b6c7\nparentCID=ffffffff\n\
                    createType=\"monolithicSparse\"\n\n# Extent description\nRW 8192 SPARSE \"a disk.vmdk\"\n\n\
                    # The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\nddb.virtualHWVersion = \"4\"\n";
        let descriptor = parse(text);
        assert_eq!(descriptor.create_type.as_deref(), Some("monolithicSparse"));
        assert_eq!(descriptor.cid, Some(0xdc80_b6c7));
        assert_eq!(descriptor.parent_cid, None);
        assert_eq!(descriptor.adapter_type().as_deref(), Some("lsilogic"));
        let [extent] = descriptor.extents.as_slice() else {
            panic!("{descriptor:?}");
        };
        assert_eq!((extent.access.as_str(), extent.sectors), ("RW", 8192));
        assert_eq!(extent.kind, "SPARSE");
        assert_eq!(extent.file.as_deref(), Some("a disk.vmdk"));
        descriptor.check_embedded().unwrap();
    }

    #[test]
    fn writers_differ_in_small_ways() {
        let mut bytes = b"# disk descriptorfile\r\nencoding=\"windows-1252\"\r\nCID = 1\r\nparentCID=ffffffff \r\n\
            createtype=streamOptimized\r\nRDONLY 10 SPARSE \"d\xe9j\xe0.vmdk\"\r\nDDB.AdapterType=\"IDE\"\r\n"
            .to_vec();
        bytes.extend([0; 40]);
        bytes.extend(b"parentCID=00000001 this is behind the end");
        let descriptor = Descriptor::parse(&bytes).unwrap();
        assert_eq!(descriptor.create_type.as_deref(), Some("streamOptimized"));
        assert_eq!(descriptor.parent_cid, None);
        assert_eq!(descriptor.adapter_type().as_deref(), Some("ide"));
        assert_eq!(
            descriptor.extents[0].file.as_deref(),
            Some("d\u{e9}j\u{e0}.vmdk")
        );
        descriptor.check_embedded().unwrap();
    }

    #[test]
    fn lines_may_end_in_any_way() {
        for end in ["\n", "\r\n", "\r", "\n\n"] {
            let text = [
                SIGNATURE,
                " CID = 00000005 ",
                "PARENTCID=FFFFFFFF",
                "RW 7 ZERO",
            ]
            .join(end);
            let descriptor = parse(&text);
            assert_eq!(descriptor.cid, Some(5));
            assert_eq!(descriptor.parent(), None);
            assert_eq!(descriptor.extents.len(), 1);
        }
    }

    #[test]
    fn parents_are_told() {
        let parent = |rest: &str| parse(&format!("{SIGNATURE}\n{rest}")).parent();
        let hint = parent("parentCID=12345678\nparentFileNameHint=\"C:\\base.vmdk\"\n");
        assert_eq!(hint.as_deref(), Some("C:\\base.vmdk"));
        let uuid = "19376c01-2e65-4a17-b720-e84770bee6a6";
        assert_eq!(
            parent(&format!("parentCID=ffffffff\nddb.uuid.parent=\"{uuid}\"\n")),
            Some(format!("{{{uuid}}}.vmdk"))
        );
        assert!(parent("parentCID=12345678\n").unwrap().contains("12345678"));
        let none = "ddb.uuid.parent=\"00000000-0000-0000-0000-000000000000\"\n";
        assert_eq!(parent(none), None);
    }

    #[test]
    fn what_cannot_be_embedded_is_refused_by_name() {
        let refusal = |rest: &str| {
            let error = parse(&format!("{SIGNATURE}\n{rest}"))
                .check_embedded()
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            error.to_string()
        };
        assert!(refusal("createType=\"holographic\"\n").contains("\"holographic\" is not known"));
        let two = "createType=\"monolithicSparse\"\nRW 1 SPARSE \"a\"\nRW 1 SPARSE \"b\"\n";
        assert!(refusal(two).contains("2 extents"));
        assert!(refusal("RW 1 FLAT \"a\" 0\n").contains("FLAT"));
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let error = |text: &str| Descriptor::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error("\u{1}\u{2}").contains("begins with"));
        assert!(
            error(&format!("{SIGNATURE}\nparentCID=zz\n"))
                .contains("descriptor line 2: expected parentcid")
        );
        assert!(
            error(&format!("{SIGNATURE}\n\nRW many SPARSE \"a\"\n")).contains("descriptor line 3")
        );
        assert!(error(&format!("{SIGNATURE}\nRW 5\n")).contains("ACCESS SECTORS TYPE"));
    }
}
