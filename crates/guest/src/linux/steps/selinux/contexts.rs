//! file_contexts(5) and its companions, looked up as libselinux does (selabel_file(5)).
//!
//! ```text
//!   lines of file_contexts, .homedirs, .local, in this order
//!     ──> those with wildcards first, those without behind them ──> the last one that matches counts
//!   file_contexts.subs, then .subs_dist: a prefix of the path stands for another one
//! ```

use regex::bytes::{Regex, RegexBuilder};

use crate::root::Kind;
use crate::{Error, Result, Root};

/// Distributions have some 10 000 lines in 1 MiB.
const FILE_MAX: u64 = 32 << 20;
const SPECS_MAX: usize = 200_000;
/// Memory for one compiled expression; those of policies need some kilobytes.
const REGEX_MAX: usize = 1 << 20;
/// What makes a path a pattern.
const META: &[char] = &['.', '^', '$', '?', '*', '+', '|', '[', '(', '{', '\\'];

/// What the policy wants of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// This label.
    Label(String),
    /// No change (`<<none>>`).
    None,
    /// It does not say.
    Unknown,
}

/// The tables of one policy.
#[derive(Debug)]
pub(super) struct Contexts {
    specs: Vec<Spec>,
    /// `file_contexts.subs`, then `.subs_dist`: prefix and what it stands for.
    subs: [Vec<(String, String)>; 2],
}

#[derive(Debug)]
struct Spec {
    pattern: String,
    /// What every path that matches begins with.
    stem: String,
    /// Its type only, as in `ls -l`; `None` for any.
    kind: Option<char>,
    context: String,
    is_exact: bool,
}

impl Contexts {
    /// Reads the tables of this policy.
    pub(super) fn read(root: &Root, policy: &str) -> Result<Self> {
        let base = format!("/etc/selinux/{policy}/contexts/files/file_contexts");
        let text = |suffix: &str| {
            let bytes = root.read(&format!("{base}{suffix}"), FILE_MAX);
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let mut specs = parse(&text("")?);
        if specs.is_empty() {
            return Err(Error::corrupt("has no contexts").at(base));
        }
        for more in [".homedirs", ".local"] {
            specs.extend(parse(&text(more).unwrap_or_default()));
        }
        specs.truncate(SPECS_MAX);
        // Stable: what has no wildcards goes behind all that has.
        specs.sort_by_key(|spec| spec.is_exact);
        let subs = |suffix: &str| substitutions(&text(suffix).unwrap_or_default());
        Ok(Self {
            specs,
            subs: [subs(".subs"), subs(".subs_dist")],
        })
    }

    /// The label of `real`, a path without links; `path` leads to the same file.
    pub(super) fn wanted(&self, root: &Root, real: &str, path: &str) -> Result<Wanted> {
        let kind = match root.link_meta(path)?.kind {
            Kind::File => '-',
            Kind::Dir => 'd',
            Kind::Symlink => 'l',
            Kind::Other => return Ok(Wanted::Unknown),
        };
        Ok(self.lookup(real, kind))
    }

    /// [`wanted`](Self::wanted) by type.
    pub(super) fn lookup(&self, path: &str, kind: char) -> Wanted {
        let mut key = match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            trimmed => trimmed.to_owned(),
        };
        for subs in &self.subs {
            let sub = subs.iter().find_map(|(from, to)| {
                let rest = key.strip_prefix(from.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
            });
            key = sub.unwrap_or(key);
        }
        let found = self
            .specs
            .iter()
            .rev()
            .find(|spec| spec.matches(&key, kind));
        match found {
            Some(spec) if spec.context == "<<none>>" => Wanted::None,
            Some(spec) => Wanted::Label(spec.context.clone()),
            None => Wanted::Unknown,
        }
    }
}

impl Spec {
    fn matches(&self, path: &str, kind: char) -> bool {
        if self.kind.is_some_and(|own| own != kind) {
            return false;
        }
        if self.is_exact {
            return self.pattern == path;
        }
        path.starts_with(&self.stem)
            && self
                .regex()
                .is_some_and(|regex| regex.is_match(path.as_bytes()))
    }

    /// Only the few expressions whose beginning fits the path are ever compiled.
    fn regex(&self) -> Option<Regex> {
        let built = RegexBuilder::new(&format!("^(?:{})$", self.pattern))
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(REGEX_MAX)
            .dfa_size_limit(REGEX_MAX)
            .build();
        // Policies keep to what every dialect has; one that does not is passed over.
        built
            .map_err(|error| tracing::debug!("{}: {error}", self.pattern))
            .ok()
    }
}

/// Lines `pattern [-type] context`.
fn parse(text: &str) -> Vec<Spec> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let specs = lines.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (pattern, kind, context) = match words.as_slice() {
            [pattern, context] => (*pattern, None, *context),
            [pattern, kind, context] => {
                let letter = kind.strip_prefix('-').and_then(|kind| kind.chars().next());
                (*pattern, Some(letter?), *context)
            }
            _ => return None,
        };
        let is_exact = !has_meta(pattern);
        Some(Spec {
            stem: stem(pattern),
            pattern: if is_exact {
                pattern.replace('\\', "")
            } else {
                pattern.to_owned()
            },
            kind,
            context: context.to_owned(),
            is_exact,
        })
    });
    specs.collect()
}

/// True when it is a pattern; an escaped wildcard is none.
fn has_meta(pattern: &str) -> bool {
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if META.contains(&character) {
            return true;
        }
    }
    false
}

/// What stands before the first wildcard, up to a slash: a `?` or `*` may take back the character before it.
fn stem(pattern: &str) -> String {
    let plain = pattern.find(META).map_or(pattern, |at| {
        // `(/.*)?` and `/a|/b` need nothing of what stands before them at that level.
        pattern.get(..at).unwrap_or_default()
    });
    if pattern.contains('|') && !pattern.contains('(') {
        return String::new();
    }
    match plain.rfind('/') {
        Some(at) => plain.get(..at).unwrap_or_default().to_owned(),
        None => String::new(),
    }
}

fn substitutions(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.filter_map(|line| {
        let (from, to) = line.split_once(char::is_whitespace)?;
        let trim = |path: &str| path.trim().trim_end_matches('/').to_owned();
        Some((trim(from), trim(to)))
    });
    pairs.filter(|(from, _)| !from.is_empty()).collect()
}
