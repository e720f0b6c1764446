//! Derives where Debian packages come from out of the host's own apt configuration: sources.list (one line per
//! source) and sources.list.d (`*.list`, and `*.sources` in deb822). Both formats: sources.list(5).
//!
//! The mirror and the keyring are the host's; only the suite is ours.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Keyring that Debian's own installer names; used where a one-line source names none.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One place that holds suites of Debian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    uri: String,
    /// Value of Signed-By, verbatim: a path, or a key block of several lines.
    signed_by: Option<String>,
    /// Holds `SUITE-security` instead of `SUITE`.
    security: bool,
}

/// Mirrors of the host's own suite, the main one first.
pub(super) fn mirrors(etc_apt: &Path, codename: &str) -> Result<Vec<Mirror>> {
    let mut texts = vec![etc_apt.join("sources.list")];
    let parts = etc_apt.join("sources.list.d");
    if let Ok(entries) = std::fs::read_dir(&parts) {
        let mut files: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        files.sort();
        texts.extend(files);
    }
    let mut sources = Vec::new();
    for path in texts.iter().filter(|path| path.is_file()) {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(text.lines().filter_map(one_line)),
            Some("sources") => {
                sources.extend(stanzas(&text).iter().filter_map(|stanza| deb822(stanza)))
            }
            _ => {}
        }
    }
    let mirrors = select(&sources, codename);
    ensure!(
        mirrors.first().is_some_and(|mirror| !mirror.security),
        "no source in {} has suite `{codename}` with component `main`",
        etc_apt.display()
    );
    Ok(mirrors)
}

/// The deb822 text that makes apt use `components` (`main …`) of `suite` from `mirrors`.
pub(super) fn render(mirrors: &[Mirror], suite: &str, components: &str) -> String {
    let mut text = String::new();
    for mirror in mirrors {
        let suffix = if mirror.security { "-security" } else { "" };
        let keyring = Path::new(DEBIAN_KEYRING)
            .is_file()
            .then(|| DEBIAN_KEYRING.to_owned());
        let _ = writeln!(
            text,
            "Types: deb\nURIs: {}\nSuites: {suite}{suffix}\nComponents: {components}",
            mirror.uri
        );
        if let Some(key) = mirror.signed_by.clone().or(keyring) {
            let _ = writeln!(text, "Signed-By: {key}");
        }
        text.push('\n');
    }
    text
}

#[derive(Debug, Default)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

fn select(sources: &[Source], codename: &str) -> Vec<Mirror> {
    let security = format!("{codename}-security");
    let mut mirrors = Vec::new();
    for (wanted, is_security) in [(codename, false), (security.as_str(), true)] {
        let found = sources.iter().find(|source| {
            source.suites.iter().any(|suite| suite == wanted)
                && source
                    .components
                    .iter()
                    .any(|component| component == "main")
        });
        let Some(source) = found else { continue };
        if let Some(uri) = source.uris.first() {
            let signed_by = source.signed_by.clone();
            mirrors.push(Mirror {
                uri: uri.clone(),
                signed_by,
                security: is_security,
            });
        }
    }
    mirrors
}

/// `deb [option=value …] URI SUITE COMPONENT…`
fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    rest = rest.trim_start();
    let mut source = Source::default();
    if let Some(options) = rest.strip_prefix('[') {
        let (options, after) = options.split_once(']')?;
        for option in options.split_whitespace() {
            if let Some(("signed-by", path)) = option.split_once('=') {
                source.signed_by = Some(path.to_owned());
            }
        }
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    source.uris.push(words.next()?);
    source.suites.push(words.next()?);
    source.components.extend(words);
    Some(source)
}

/// Fields of each stanza, names in lower case, continuation lines kept with their indent.
fn stanzas(text: &str) -> Vec<Vec<(String, String)>> {
    let mut all = vec![Vec::<(String, String)>::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            all.push(Vec::new());
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = all.last_mut().and_then(|fields| fields.last_mut()) {
                value.push('\n');
                value.push_str(line);
            }
        } else if let (Some((name, value)), Some(fields)) = (line.split_once(':'), all.last_mut()) {
            fields.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    all.retain(|fields| !fields.is_empty());
    all
}

fn deb822(fields: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| {
        fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    };
    let words = |name: &str| -> Vec<String> {
        field(name)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    if field("enabled").is_some_and(|value| matches!(value, "no" | "false" | "0")) {
        return None;
    }
    words("types")
        .iter()
        .any(|kind| kind == "deb")
        .then(|| Source {
            uris: words("uris"),
            suites: words("suites"),
            components: words("components"),
            signed_by: field("signed-by").map(str::to_owned),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derive(files: &[(&str, &str)], codename: &str) -> Result<Vec<Mirror>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        mirrors(dir.path(), codename)
    }

    #[test]
    fn one_line_sources_give_the_mirror_and_its_key() {
        let list = "# deb http://old.invalid/debian bookworm main\n\
            deb-src http://mirror.invalid/debian bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://mirror.invalid/debian bookworm main contrib # mine\n\
            deb http://mirror.invalid/security bookworm-security main\n";
        let found = derive(&[("sources.list", list)], "bookworm").unwrap();
        assert_eq!(found[0].uri, "http://mirror.invalid/debian");
        assert_eq!(found[0].signed_by.as_deref(), Some("/k.gpg"));
        assert!(!found[0].security && found[1].security);
        let text = render(&found, "trixie", "main");
        assert!(
            text.contains("Suites: trixie\n") && text.contains("Suites: trixie-security\n"),
            "{text}"
        );
        assert!(!text.contains("bookworm"), "{text}");
    }

    #[test]
    fn deb822_sources_of_other_projects_and_disabled_ones_are_passed_over() {
        let other = "Types: deb\nURIs: http://other.invalid\nSuites: nodistro\nComponents: main\n";
        let debian = "Enabled: no\nTypes: deb\nURIs: http://off.invalid\nSuites: trixie\nComponents: main\n\n\
            # comment\nTypes: deb deb-src\nURIs: mirror+file:///etc/apt/mirrors/debian.list\n\
            Suites: trixie trixie-updates\nComponents: main non-free\nSigned-By:\n -----BEGIN\n .\n abc\n";
        let files = [
            ("sources.list.d/a.sources", other),
            ("sources.list.d/debian.sources", debian),
        ];
        let found = derive(&files, "trixie").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].uri, "mirror+file:///etc/apt/mirrors/debian.list");
        assert_eq!(
            found[0].signed_by.as_deref(),
            Some("\n -----BEGIN\n .\n abc")
        );
    }

    #[test]
    fn a_host_without_its_own_suite_is_refused() {
        let list = "deb http://mirror.invalid/debian stable main\n";
        let error = derive(&[("sources.list", list)], "bookworm")
            .unwrap_err()
            .to_string();
        assert!(error.contains("`bookworm`"), "{error}");
    }
}
