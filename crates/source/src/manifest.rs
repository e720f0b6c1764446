//! Manifests (`.mf`): one line `ALGORITHM(NAME)= DIGEST` for each file (DSP0243 1.1.0, 5.1), with SHA1, SHA256 or
//! SHA512. Spaces may stand around the parentheses and the equals sign; VirtualBox writes them.
//!
//! A line that cannot be read is a warning, a digest that differs is an error, a listed file that is absent is a
//! warning, an unlisted file is fine: as virt-v2v has it.

use std::fmt;

use image::FileRange;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use types::CancelToken;

use crate::error::{Error, ErrorKind, Result, shown};

/// Bytes hashed between two looks at the cancel token.
const CHUNK_SIZE: u64 = 1 << 20;
/// Longest part of an unreadable line that a warning shows is [`shown`]'s; this many lines are shown at all.
const MAX_BAD_LINES: usize = 10;

/// Hash function of a manifest line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
    /// Not of manifests: of zip archives.
    Crc32,
}

impl Algorithm {
    fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().replace('-', "").as_str() {
            "SHA1" => Some(Self::Sha1),
            "SHA256" => Some(Self::Sha256),
            "SHA512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Crc32 => 4,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
            Self::Crc32 => "CRC-32",
        })
    }
}

/// A readable line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// File as the line names it.
    pub(crate) name: String,
    algorithm: Algorithm,
    /// Lower-case hexadecimal.
    expected: String,
}

/// A manifest's lines, and warnings about those that cannot be read.
pub(crate) fn parse(text: &str, label: &str) -> (Vec<Entry>, Vec<String>) {
    let mut entries = Vec::new();
    let mut warnings = Vec::new();
    let mut bad = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(entry) = parse_line(line) {
            entries.push(entry);
        } else {
            bad += 1;
            if bad <= MAX_BAD_LINES {
                warnings.push(format!(
                    "{label}: cannot read the manifest line `{}`",
                    shown(line)
                ));
            }
        }
    }
    if bad > MAX_BAD_LINES {
        warnings.push(format!(
            "{label}: cannot read {} more lines of the manifest",
            bad - MAX_BAD_LINES
        ));
    }
    (entries, warnings)
}

fn parse_line(line: &str) -> Option<Entry> {
    let (algorithm, rest) = line.split_once('(')?;
    let (name, digest) = rest.rsplit_once(')')?;
    let algorithm = Algorithm::parse(algorithm.trim())?;
    let digest = digest.trim_start().strip_prefix('=')?.trim();
    let valid = digest.len() == 2 * algorithm.digest_len()
        && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let expected = digest.to_ascii_lowercase();
    (valid && !name.is_empty()).then(|| Entry {
        name: name.to_owned(),
        algorithm,
        expected,
    })
}

/// One file or archive member whose hash is still to be compared with its manifest line. Run it while the conversion
/// reads the same bytes: the page cache serves both.
#[derive(Debug)]
pub struct Verification {
    label: String,
    entry: Entry,
    range: FileRange,
}

impl Verification {
    pub(crate) fn new(entry: Entry, range: FileRange) -> Self {
        Self {
            label: range.label().to_owned(),
            entry,
            range,
        }
    }

    /// Of a member of a zip archive.
    pub(crate) fn crc32(name: &str, expected: u32, range: FileRange) -> Self {
        let entry = Entry {
            name: name.to_owned(),
            algorithm: Algorithm::Crc32,
            expected: format!("{expected:08x}"),
        };
        Self::new(entry, range)
    }

    /// The file for people, e.g. `guest.ova:disk1.vmdk`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Number of bytes that [`run`](Self::run) will read.
    pub fn byte_len(&self) -> u64 {
        self.range.len()
    }

    /// Reads the file to its end and compares. `progress` gets the number of bytes read so far, which only grows.
    pub fn run(self, cancel: &CancelToken, progress: &dyn Fn(u64)) -> Result<()> {
        let found = match self.entry.algorithm {
            Algorithm::Sha1 => hash(Sha1::new(), &self.range, cancel, progress)?,
            Algorithm::Sha256 => hash(Sha256::new(), &self.range, cancel, progress)?,
            Algorithm::Sha512 => hash(Sha512::new(), &self.range, cancel, progress)?,
            Algorithm::Crc32 => hash(Crc::new(), &self.range, cancel, progress)?,
        };
        if found == self.entry.expected {
            return Ok(());
        }
        let Entry {
            name,
            algorithm,
            expected,
        } = &self.entry;
        let message = format!(
            "{} mismatch: expected {algorithm} {expected} of `{}`, found {found}; the file is damaged or was changed",
            if *algorithm == Algorithm::Crc32 {
                "archive"
            } else {
                "manifest"
            },
            shown(name)
        );
        Err(Error::new(ErrorKind::Mismatch, message).in_file(&self.label))
    }
}

/// What all checksums do.
trait Checksum {
    fn add(&mut self, bytes: &[u8]);
    /// Lower-case hexadecimal.
    fn hex(self) -> String;
}

impl<D: Digest> Checksum for D {
    fn add(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn hex(self) -> String {
        let digest = self.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// libdeflate's CRC-32, which is no [`Digest`].
struct Crc(libdeflater::Crc);

impl Crc {
    fn new() -> Self {
        Self(libdeflater::Crc::new())
    }
}

impl Checksum for Crc {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn hex(self) -> String {
        format!("{:08x}", self.0.sum())
    }
}

fn hash<D: Checksum>(
    mut digest: D,
    range: &FileRange,
    cancel: &CancelToken,
    progress: &dyn Fn(u64),
) -> Result<String> {
    let mut buf = vec![0; usize::try_from(CHUNK_SIZE.min(range.len())).unwrap_or(0)];
    let mut done = 0;
    while done < range.len() {
        if cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled").in_file(range.label()));
        }
        let len = CHUNK_SIZE.min(range.len() - done);
        let chunk = &mut buf[..usize::try_from(len).unwrap_or(0)];
        range.read_exact_at(chunk, done)?;
        digest.add(chunk);
        done += len;
        progress(done);
    }
    Ok(digest.hex())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SHA1_OF_ABC: &str = "a9993e364706816aba3e25717850c26c9cd0d89d";
    const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const SHA512_OF_ABC: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    fn abc(dir: &tempfile::TempDir) -> FileRange {
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        FileRange::open(&path).unwrap()
    }

    fn check(line: &str) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let entry = parse_line(line).unwrap();
        Verification::new(entry, abc(&dir)).run(&CancelToken::new(), &|_| {})
    }

    #[test]
    fn all_three_algorithms_and_both_spacings_verify() {
        check(&format!("SHA1(abc)= {SHA1_OF_ABC}")).unwrap();
        check(&format!("SHA1 (abc) = {SHA1_OF_ABC}")).unwrap();
        check(&format!("sha256(abc)={}", SHA256_OF_ABC.to_uppercase())).unwrap();
        check(&format!("SHA-512(abc)= {SHA512_OF_ABC}")).unwrap();
    }

    #[test]
    fn a_mismatch_names_file_algorithm_expected_and_found() {
        let wrong = SHA1_OF_ABC.replace('a', "b");
        let error = check(&format!("SHA1(abc)= {wrong}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        let text = error.to_string();
        for part in ["`abc`", "SHA1", wrong.as_str(), SHA1_OF_ABC] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn names_with_parentheses_are_kept_whole() {
        let entry = parse_line(&format!("SHA1(disk (1).vmdk)= {SHA1_OF_ABC}")).unwrap();
        assert_eq!(entry.name, "disk (1).vmdk");
    }

    #[test]
    fn unreadable_lines_are_warnings_and_not_too_many() {
        let lines = [
            "garbage".to_owned(),
            format!("MD5(abc)= {SHA1_OF_ABC}"),
            "SHA1(abc)= 1234".to_owned(),
            format!("SHA256(abc)= {SHA1_OF_ABC}"),
            format!("SHA1()= {SHA1_OF_ABC}"),
            format!("SHA1(abc) {SHA1_OF_ABC}"),
            String::new(),
            format!("SHA1(abc)= {SHA1_OF_ABC}"),
        ];
        let (entries, warnings) = parse(&lines.join("\r\n"), "m.mf");
        assert_eq!((entries.len(), warnings.len()), (1, 6));
        let (_, warnings) = parse(&"bad\n".repeat(1000), "m.mf");
        assert_eq!(warnings.len(), MAX_BAD_LINES + 1);
        assert!(warnings[MAX_BAD_LINES].contains("990"));
    }

    #[test]
    fn progress_reaches_the_length_and_cancelling_stops() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        std::fs::write(&path, vec![7; usize::try_from(CHUNK_SIZE * 2 + 5).unwrap()]).unwrap();
        let range = FileRange::open(&path).unwrap();
        let entry = parse_line(&format!("SHA1(big)= {SHA1_OF_ABC}")).unwrap();

        let last = Cell::new(0);
        let verification = Verification::new(entry.clone(), range.clone());
        assert_eq!(verification.byte_len(), CHUNK_SIZE * 2 + 5);
        let error = verification
            .run(&CancelToken::new(), &|done| last.set(done))
            .unwrap_err();
        assert_eq!(
            (error.kind(), last.get()),
            (ErrorKind::Mismatch, CHUNK_SIZE * 2 + 5)
        );

        let cancel = CancelToken::new();
        let stop = |_| cancel.cancel();
        let error = Verification::new(entry, range)
            .run(&cancel, &stop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}
