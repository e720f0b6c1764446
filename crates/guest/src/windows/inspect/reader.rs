//! Values of the registry for inspection: what is not there or of another type is no value. Texts are a stranger's words,
//! made fit for a terminal and cut.

use registry::{Hive, Value};

use crate::linux::escapes::printable;
use crate::windows::hives::Registry;

/// No name that is shown is longer.
const TEXT_MAX: usize = 512;
/// More keys than these below one are not looked at.
pub(crate) const KEYS_MAX: usize = 4096;

/// Reads both hives; paths below the current control set are given without it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    registry: &'a Registry,
    control_set: &'a str,
}

/// One hive, below a prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys<'a> {
    hive: &'a Hive,
    prefix: &'a str,
}

impl<'a> Reader<'a> {
    /// Of this control set, e.g. `ControlSet001`.
    pub(crate) fn new(registry: &'a Registry, control_set: &'a str) -> Self {
        Self {
            registry,
            control_set,
        }
    }

    /// The current control set.
    pub(crate) fn control(&self) -> Keys<'a> {
        Keys {
            hive: self.registry.system(),
            prefix: self.control_set,
        }
    }

    /// HKLM\SYSTEM itself.
    pub(crate) fn system(&self) -> Keys<'a> {
        Keys::new(self.registry.system())
    }

    /// HKLM\SOFTWARE.
    pub(crate) fn software(&self) -> Keys<'a> {
        Keys::new(self.registry.software())
    }
}

impl<'a> Keys<'a> {
    /// The whole hive.
    pub(crate) fn new(hive: &'a Hive) -> Self {
        Self { hive, prefix: "" }
    }

    fn path(&self, path: &str) -> String {
        match (self.prefix, path) {
            ("", path) => path.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => format!("{prefix}\\{path}"),
        }
    }

    /// True when there is such a key.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.hive.has(&self.path(path)).unwrap_or(false)
    }

    /// Names of the keys below.
    pub(crate) fn keys(&self, path: &str) -> Vec<String> {
        let mut keys = self.hive.keys(&self.path(path)).unwrap_or_default();
        keys.truncate(KEYS_MAX);
        keys
    }

    /// Names of all keys below, for the few lists that are long.
    pub(crate) fn all_keys(&self, path: &str) -> Vec<String> {
        self.hive.keys(&self.path(path)).unwrap_or_default()
    }

    /// Names and values.
    pub(crate) fn values(&self, path: &str) -> Vec<(String, Value)> {
        let mut values = self.hive.values(&self.path(path)).unwrap_or_default();
        values.truncate(KEYS_MAX);
        values
    }

    /// One value as it is.
    pub(crate) fn value(&self, path: &str, name: &str) -> Option<Value> {
        let value = self.hive.value(&self.path(path), name);
        value.unwrap_or_else(|error| {
            tracing::warn!("registry, {path}: {error}");
            None
        })
    }

    /// A text that is not empty.
    pub(crate) fn text(&self, path: &str, name: &str) -> Option<String> {
        let text = self.value(path, name)?.as_text()?;
        let text = clean(text.trim());
        (!text.is_empty()).then_some(text)
    }

    /// A number; old Windows write some numbers as texts.
    pub(crate) fn number(&self, path: &str, name: &str) -> Option<u32> {
        let value = self.value(path, name)?;
        let wide = || value.as_u64().and_then(|wide| u32::try_from(wide).ok());
        let text = || value.as_text().and_then(|text| text.trim().parse().ok());
        value.as_u32().or_else(wide).or_else(text)
    }

    /// True for a number other than 0.
    pub(crate) fn is_set(&self, path: &str, name: &str) -> bool {
        self.number(path, name).is_some_and(|number| number != 0)
    }

    /// The texts of a list that are not empty.
    pub(crate) fn list(&self, path: &str, name: &str) -> Vec<String> {
        let texts = self.value(path, name).and_then(|value| value.as_multi());
        let texts = texts.unwrap_or_default().into_iter().take(KEYS_MAX);
        texts
            .map(|text| clean(text.trim()))
            .filter(|text| !text.is_empty())
            .collect()
    }
}

/// Fit for a terminal and not too long.
pub(crate) fn clean(text: &str) -> String {
    let cut: String = text.chars().take(TEXT_MAX).collect();
    printable(&cut).into_owned()
}
