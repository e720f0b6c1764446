//! Reads which archive the host's own apt configuration uses, so that no host name of any archive stands in this repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The key that Debian signs with, where an entry names none.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the host gets its own release from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// URI of the archive's root.
    pub uri: String,
    /// Path of the key that signs it.
    pub signed_by: String,
}

impl Archive {
    /// The entry of the host's configuration for the suite `codename`, component main.
    pub fn of_host(codename: &str) -> Result<Self> {
        for file in source_files() {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let found = if is_deb822(&file) {
                deb822(&text, codename)
            } else {
                one_line(&text, codename)
            };
            if let Some(archive) = found {
                return Ok(archive);
            }
        }
        bail!(
            "no apt source for {codename} main in /etc/apt, expected one as on any Debian 12 or 13"
        )
    }

    /// A deb822 stanza for another suite of the same archive.
    pub fn deb822(&self, suite: &str) -> String {
        format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nSigned-By: {}\n",
            self.uri, self.signed_by
        )
    }

    /// A one-line entry for another suite of the same archive.
    pub fn one_line(&self, suite: &str) -> String {
        format!(
            "deb [signed-by={}] {} {suite} main\n",
            self.signed_by, self.uri
        )
    }
}

/// `VERSION_CODENAME` of the host.
pub fn host_codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename =
        codename.context("/etc/os-release has no VERSION_CODENAME: expected Debian 12 or 13")?;
    Ok(codename.trim_matches('"').to_owned())
}

/// Whether the suite is configured on the host.
pub fn has_suite(suite: &str) -> bool {
    source_files().iter().any(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        if is_deb822(file) {
            deb822(&text, suite).is_some()
        } else {
            one_line(&text, suite).is_some()
        }
    })
}

fn source_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    for entry in fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten()
    {
        files.push(entry.path());
    }
    files.retain(|file| {
        file.extension()
            .is_some_and(|ext| ext == "list" || ext == "sources")
    });
    files.sort();
    files
}

fn is_deb822(file: &Path) -> bool {
    file.extension().is_some_and(|ext| ext == "sources")
}

/// See sources.list(5), "DEB822-STYLE FORMAT". A key that is written into the entry itself is not taken over.
fn deb822(text: &str, suite: &str) -> Option<Archive> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let line = stanza
                .lines()
                .find(|line| line.to_ascii_lowercase().starts_with(name))?;
            Some(line.split_once(':')?.1.trim())
        };
        let has = |name: &str, word: &str| {
            field(name).is_some_and(|value| value.split_whitespace().any(|w| w == word))
        };
        let wanted = has("types:", "deb") && has("suites:", suite) && has("components:", "main");
        let uri = field("uris:")?.split_whitespace().next()?;
        let key = field("signed-by:")
            .filter(|key| key.starts_with('/'))
            .unwrap_or(DEBIAN_KEYRING);
        (wanted && !has("enabled:", "no")).then(|| Archive {
            uri: uri.to_owned(),
            signed_by: key.to_owned(),
        })
    })
}

/// See sources.list(5), "ONE-LINE-STYLE FORMAT".
fn one_line(text: &str, suite: &str) -> Option<Archive> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?,
            None => ("", rest),
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let wanted =
            words.get(1) == Some(&suite) && words.iter().skip(2).any(|word| *word == "main");
        let key = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .unwrap_or(DEBIAN_KEYRING);
        wanted.then(|| Archive {
            uri: words[0].to_owned(),
            signed_by: key.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_in_either_style() {
        let text = "Types: deb\nURIs: http://a.test/x\nSuites: trixie-security\nComponents: main\n\n\
                    # Types: deb\nTypes: deb deb-src\nURIs: http://a.test/debian\nSuites: trixie trixie-updates\n\
                    Components: contrib main\nSigned-By: /k.gpg\n";
        let archive = deb822(text, "trixie").unwrap();
        assert_eq!(
            archive,
            Archive {
                uri: "http://a.test/debian".into(),
                signed_by: "/k.gpg".into()
            }
        );
        assert_eq!(deb822(text, "bookworm"), None);
        assert_eq!(
            deb822(
                &text.replace("Suites: trixie t", "Enabled: no\nSuites: trixie t"),
                "trixie"
            ),
            None
        );

        let text = "# deb http://no.test/ bookworm main\ndeb-src http://no.test/ bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://b.test/debian bookworm main contrib\n";
        let archive = one_line(text, "bookworm").unwrap();
        assert_eq!(
            archive.one_line("x"),
            "deb [signed-by=/k.gpg] http://b.test/debian x main\n"
        );
        assert_eq!(one_line(text, "bookworm-updates"), None);
        let plain = one_line("deb http://b.test/debian bookworm main\n", "bookworm").unwrap();
        assert_eq!(plain.signed_by, DEBIAN_KEYRING);
    }

    #[test]
    fn a_written_stanza_is_read_back() {
        let archive = Archive {
            uri: "http://a.test/debian".into(),
            signed_by: "/k.gpg".into(),
        };
        assert_eq!(
            deb822(&archive.deb822("bookworm-backports"), "bookworm-backports"),
            Some(archive)
        );
    }
}
