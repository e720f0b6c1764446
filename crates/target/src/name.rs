//! The name of the result: what a source may call its machine against what files and libvirt can carry.
//!
//! - `/` becomes `_`, in file names and domain name alike, and a note says so (virt-v2v 2.12 does so for its
//!   files; libvirt refuses `/` in domain names anyway).
//! - Control characters (line breaks among them), an empty name, `.`, `..` and names too long for a file name
//!   are refused: the user gives another name with `-on`.

use crate::{Error, ErrorKind, Result};

/// Longest name in bytes: NAME_MAX of Linux (255) less room for `.`, `.v2v-4194304-99` or `-sdaaa`.
const MAX_NAME_BYTES: usize = 224;

/// A name that is safe as the stem of file names and as a libvirt domain name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CleanName {
    pub(crate) name: String,
    /// What was changed, for the user.
    pub(crate) note: Option<String>,
}

/// Checks and cleans a name given by `-on` or found at the source.
pub(crate) fn clean(wanted: &str) -> Result<CleanName> {
    let refuse = |why: String| {
        Err(Error::new(ErrorKind::Usage, why)
            .with_hint("give the result another name with -on NAME"))
    };
    if wanted.trim().is_empty() {
        return refuse("expected a name for the result, found an empty one".to_owned());
    }
    if let Some(bad) = wanted
        .chars()
        .find(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        return refuse(format!(
            "the name {wanted:?} contains the control character {:#x}",
            u32::from(bad)
        ));
    }
    if wanted == "." || wanted == ".." {
        return refuse(format!("`{wanted}` cannot be the name of a file"));
    }
    if wanted.len() > MAX_NAME_BYTES {
        return refuse(format!(
            "the name is {} bytes long, expected at most {MAX_NAME_BYTES}: it begins with `{}`",
            wanted.len(),
            wanted.chars().take(40).collect::<String>()
        ));
    }
    let name = wanted.replace('/', "_");
    let note = (name != wanted)
        .then(|| format!("the name `{wanted}` contains `/`: the result is called `{name}`"));
    Ok(CleanName { name, note })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_becomes_an_underscore_and_is_reported() {
        let clean = clean("web/prod/../1").unwrap();
        assert_eq!(clean.name, "web_prod_.._1");
        assert!(clean.note.unwrap().contains("web/prod/../1"));
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in [
            "debian12",
            "web server (1)",
            "grün,blau=1",
            "-rf",
            "o'brien\"$(x)",
        ] {
            assert_eq!(
                clean(name).unwrap(),
                CleanName {
                    name: name.to_owned(),
                    note: None
                }
            );
        }
    }

    #[test]
    fn names_that_no_file_can_have_are_refused_with_the_option_named() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for name in [
            "",
            "  ",
            ".",
            "..",
            "a\nb",
            "a\u{1b}[31mb",
            "nul\0",
            long.as_str(),
        ] {
            let error = clean(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{name:?}");
            assert!(error.hint().unwrap().contains("-on"), "{name:?}");
            assert!(
                !error.to_string().contains(['\n', '\u{1b}']),
                "{name:?} reaches the terminal raw"
            );
        }
    }
}
