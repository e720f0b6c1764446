//! The descriptor: lines of text that name the subformat, the parent, the extents and the adapter
//! (VDF 1.1, The Descriptor File). It is embedded behind the sparse header or is a file of its own.
//!
//! Descriptors come in the character set of the machine that wrote them; only names are affected, so bytes that are
//! not UTF-8 are replaced. Line ends, spaces around `=`, quotes and the case of keys vary between writers.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// First line of every descriptor.
pub(super) const SIGNATURE: &str = "# Disk DescriptorFile";
/// `parentCID` of a disk without parent (`CID_NOPARENT`).
const NO_PARENT: u32 = u32::MAX;

/// Subformats that keep their data in other files or in VMFS structures; they are known, and not read.
const KNOWN_SUBFORMATS: &[&str] = &[
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
}

/// One line of the extent description: `RW 8192 SPARSE "disk.vmdk" 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentLine {
    /// `RW`, `RDONLY` or `NOACCESS`.
    pub access: String,
    /// Sectors of the disk that it covers.
    pub sectors: u64,
    /// `SPARSE`, `FLAT`, `ZERO`, `VMFS`, ….
    pub kind: String,
    /// The file, as written.
    pub file: Option<String>,
    /// Where a flat extent begins in its file, in sectors.
    pub offset_sectors: Option<u64>,
}

impl Descriptor {
    /// Parses the text up to the first NUL.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if !text
            .get(..SIGNATURE.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(SIGNATURE))
        {
            let found: String = text.chars().take(24).collect();
            return Err(Error::corrupt(format!(
                "expected a descriptor that begins with {SIGNATURE:?}, found {found:?}"
            )));
        }
        let mut this = Self::default();
        for (number, line) in text.split(['\n', '\r']).enumerate() {
            this.line(line.trim())
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

    fn line(&mut self, line: &str) -> Result<()> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(extent) = ExtentLine::parse(line)? {
            self.extents.push(extent);
            return Ok(());
        }
        let Some((key, value)) = line.split_once('=') else {
            tracing::debug!(
                line,
                "passing over a descriptor line that is neither an extent nor an assignment"
            );
            return Ok(());
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), unquote(value));
        match key.as_str() {
            "createtype" => self.create_type = (!value.is_empty()).then(|| value.to_owned()),
            "cid" => self.cid = Some(content_id(&key, value)?),
            "parentcid" => {
                self.parent_cid = Some(content_id(&key, value)?).filter(|cid| *cid != NO_PARENT)
            }
            "parentfilenamehint" => {
                self.parent_hint = (!value.is_empty()).then(|| value.to_owned())
            }
            _ => {
                if let Some(key) = key.strip_prefix("ddb.") {
                    self.ddb.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        Ok(())
    }

    /// What is known of the parent of a delta disk. VirtualBox writes `parentCID=ffffffff` into its deltas as into
    /// every other disk, and names the parent by `ddb.uuid.parent` alone.
    pub fn parent(&self) -> Option<String> {
        let uuid = self
            .ddb
            .get("uuid.parent")
            .filter(|uuid| uuid.chars().any(|c| !matches!(c, '0' | '-' | '{' | '}')));
        match (&self.parent_hint, uuid, self.parent_cid) {
            (Some(file), ..) => Some(file.clone()),
            (None, Some(uuid), _) => Some(format!("the VirtualBox disk {uuid}")),
            (None, None, Some(cid)) => Some(format!("a file with the content id {cid:08x}")),
            (None, None, None) => None,
        }
    }

    /// Refuses what is not a complete disk in one sparse file.
    pub(super) fn check_one_sparse_file(&self) -> Result<()> {
        if let Some(parent) = self.parent() {
            return Err(Error::unsupported(format!(
                "a VMDK delta disk (snapshot) is not read yet; its parent is {parent}"
            )));
        }
        match self.create_type.as_deref() {
            None => tracing::debug!("the descriptor has no createType"),
            Some(name) if is(name, "monolithicSparse") || is(name, "streamOptimized") => {}
            Some(name) => return Err(self.refusal(name)),
        }
        match self.extents.as_slice() {
            [] => Ok(()),
            [extent] if is(&extent.kind, "SPARSE") => Ok(()),
            [extent] => Err(Error::unsupported(format!(
                "a VMDK extent of type {:?} embedded in a sparse file is not supported",
                extent.kind
            ))),
            extents => Err(Error::unsupported(format!(
                "a VMDK of {} extents is not read yet (one is)",
                extents.len()
            ))),
        }
    }

    /// The refusal of a descriptor that is a file of its own.
    pub(super) fn refuse_file(&self) -> Error {
        match self.create_type.as_deref() {
            Some(name) => self.refusal(name),
            None => {
                Error::unsupported("a VMDK descriptor file without createType is not supported")
            }
        }
    }

    fn refusal(&self, name: &str) -> Error {
        if KNOWN_SUBFORMATS.iter().any(|known| is(name, known)) {
            let first = self
                .extents
                .iter()
                .find_map(|extent| extent.file.as_deref());
            let data = first
                .map(|file| format!("; its data are in {file:?}"))
                .unwrap_or_default();
            return Error::unsupported(format!("VMDK subformat {name} is not read yet{data}"));
        }
        if is(name, "monolithicSparse") || is(name, "streamOptimized") {
            return Error::unsupported(format!(
                "VMDK subformat {name} with a separate descriptor is not supported"
            ));
        }
        Error::unsupported(format!("VMDK subformat {name:?} is not known"))
    }
}

impl ExtentLine {
    /// None when the line is not one of an extent.
    fn parse(line: &str) -> Result<Option<Self>> {
        let Some((access, rest)) = next_word(line) else {
            return Ok(None);
        };
        if !["RW", "RDONLY", "NOACCESS"]
            .iter()
            .any(|word| is(access, word))
        {
            return Ok(None);
        }
        let bad = || {
            Error::corrupt(format!(
                "expected ACCESS SECTORS TYPE \"FILE\", found {line:?}"
            ))
        };
        let (sectors, rest) = next_word(rest).ok_or_else(bad)?;
        let sectors = sectors.parse().map_err(|_| bad())?;
        let (kind, rest) = next_word(rest).ok_or_else(bad)?;
        let (file, rest) = match (rest.find('"'), rest.rfind('"')) {
            (Some(open), Some(close)) if open < close => {
                (rest.get(open + 1..close), rest.get(close + 1..))
            }
            _ => next_word(rest).map_or((None, None), |(file, rest)| (Some(file), Some(rest))),
        };
        let offset_sectors = match next_word(rest.unwrap_or_default()) {
            Some((word, _)) => word.parse().ok(),
            None => None,
        };
        Ok(Some(Self {
            access: access.to_ascii_uppercase(),
            sectors,
            kind: kind.to_ascii_uppercase(),
            file: file.map(str::to_owned),
            offset_sectors,
        }))
    }
}

fn is(found: &str, word: &str) -> bool {
    found.eq_ignore_ascii_case(word)
}

fn next_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn unquote(value: &str) -> &str {
    let value = value.trim();
    value
        .strip_prefix('"')
        .and_then(|inner| inner.strip_suffix('"'))
        .unwrap_or(value)
        .trim()
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
        let extent = ExtentLine {
            access: "RW".into(),
            sectors: 8192,
            kind: "SPARSE".into(),
            file: Some("a disk.vmdk".into()),
            offset_sectors: None,
        };
        assert_eq!(descriptor.extents, [extent]);
        descriptor.check_one_sparse_file().unwrap();
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
            Some("d\u{fffd}j\u{fffd}.vmdk")
        );
        descriptor.check_one_sparse_file().unwrap();
    }

    #[test]
    fn subformats_and_parents_are_refused_by_name() {
        let refusal = |rest: &str| {
            let error = parse(&format!("{SIGNATURE}\n{rest}"))
                .check_one_sparse_file()
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            error.to_string()
        };
        assert!(refusal("createType=\"vmfsSparse\"\n").contains("vmfsSparse"));
        assert!(refusal("createType=\"holographic\"\n").contains("\"holographic\" is not known"));
        let delta = "createType=\"monolithicSparse\"\nparentCID=12345678\nparentFileNameHint=\"base.vmdk\"\n";
        assert!(
            refusal(delta)
                .contains("delta disk (snapshot) is not read yet; its parent is base.vmdk")
        );
        let delta = "createType=\"monolithicSparse\"\nparentCID=ffffffff\n\
                     ddb.uuid.parent=\"19376c01-2e65-4a17-b720-e84770bee6a6\"\n";
        assert!(refusal(delta).contains("the VirtualBox disk 19376c01"));
        assert!(refusal("parentCID=12345678\n").contains("content id 12345678"));
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
