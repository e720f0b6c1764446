//! Reads of one control set of SYSTEM.

use registry::{Hive, Value};

use crate::Result;
use crate::windows::hives::failed;

/// A control set, and what is read of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControlSet<'a> {
    hive: &'a Hive,
    name: &'a str,
}

impl<'a> ControlSet<'a> {
    /// `name` is as in `WindowsInfo::control_sets`.
    pub(crate) fn new(hive: &'a Hive, name: &'a str) -> Self {
        Self { hive, name }
    }

    /// A path below it as one below the hive's root.
    pub(crate) fn path(&self, below: &str) -> String {
        format!("{}\\{below}", self.name)
    }

    /// True when there is such a key.
    pub(crate) fn has(&self, below: &str) -> Result<bool> {
        let path = self.path(below);
        self.hive.has(&path).map_err(failed(&path))
    }

    /// Names of the keys below a key; none where it is not there.
    pub(crate) fn keys(&self, below: &str) -> Result<Vec<String>> {
        let path = self.path(below);
        self.hive.keys(&path).map_err(failed(&path))
    }

    /// A key's values.
    pub(crate) fn values(&self, below: &str) -> Result<Vec<(String, Value)>> {
        let path = self.path(below);
        self.hive.values(&path).map_err(failed(&path))
    }

    /// One value.
    pub(crate) fn value(&self, below: &str, name: &str) -> Result<Option<Value>> {
        let path = self.path(below);
        self.hive.value(&path, name).map_err(failed(&path))
    }

    /// A text that is not empty.
    pub(crate) fn text(&self, below: &str, name: &str) -> Result<Option<String>> {
        let value = self.value(below, name)?;
        let text = value.and_then(|value| value.as_text());
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// A number.
    pub(crate) fn number(&self, below: &str, name: &str) -> Result<Option<u32>> {
        Ok(self.value(below, name)?.and_then(|value| value.as_u32()))
    }

    /// A list of texts; empty where there is none.
    pub(crate) fn texts(&self, below: &str, name: &str) -> Result<Vec<String>> {
        let value = self.value(below, name)?;
        Ok(value.and_then(|value| value.as_multi()).unwrap_or_default())
    }
}
