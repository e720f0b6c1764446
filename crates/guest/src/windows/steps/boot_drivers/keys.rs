//! Registry edits of this step: all with one reason.

use registry::{Hive, Kind, Value};

use super::add_reg::{Action, Setting};
use crate::Result;
use crate::windows::convert::Context;
use crate::windows::hives::Which;
use crate::windows::hives::failed;

/// Edits one hive.
pub(super) struct Keys<'c, 'a> {
    context: &'c mut Context<'a>,
    which: Which,
    why: String,
}

impl<'c, 'a> Keys<'c, 'a> {
    /// Of HKLM\SYSTEM.
    pub(super) fn system(context: &'c mut Context<'a>, why: impl Into<String>) -> Self {
        Self {
            context,
            which: Which::System,
            why: why.into(),
        }
    }

    /// Of HKLM\SOFTWARE.
    pub(super) fn software(context: &'c mut Context<'a>, why: impl Into<String>) -> Self {
        Self {
            context,
            which: Which::Software,
            why: why.into(),
        }
    }

    pub(super) fn set(&mut self, key: &str, name: &str, value: &Value) -> Result<bool> {
        let recorder = &mut self.context.recorder;
        let registry = &mut self.context.registry;
        registry.set(recorder, self.which, key, name, value, &self.why)
    }

    pub(super) fn text(&mut self, key: &str, name: &str, text: &str) -> Result<bool> {
        self.set(key, name, &Value::text(text))
    }

    pub(super) fn dword(&mut self, key: &str, name: &str, number: u32) -> Result<bool> {
        self.set(key, name, &Value::dword(number))
    }

    pub(super) fn create(&mut self, key: &str) -> Result<bool> {
        let recorder = &mut self.context.recorder;
        let registry = &mut self.context.registry;
        registry.create_key(recorder, self.which, key, &self.why)
    }

    pub(super) fn delete_key(&mut self, key: &str) -> Result<bool> {
        let recorder = &mut self.context.recorder;
        let registry = &mut self.context.registry;
        registry.delete_key(recorder, self.which, key, &self.why)
    }

    pub(super) fn delete_value(&mut self, key: &str, name: &str) -> Result<bool> {
        let recorder = &mut self.context.recorder;
        let registry = &mut self.context.registry;
        registry.delete_value(recorder, self.which, key, name, &self.why)
    }

    /// Does what the lines say, below this key.
    pub(super) fn apply(&mut self, base: &str, settings: &[Setting]) -> Result<()> {
        for setting in settings {
            let key = below(base, &setting.key);
            match &setting.action {
                Action::Key => {
                    self.create(&key)?;
                }
                Action::Set(value) => {
                    self.set(&key, &setting.name, value)?;
                }
                Action::Default(value) => {
                    if self.value(&key, &setting.name)?.is_none() {
                        self.set(&key, &setting.name, value)?;
                    }
                }
                Action::Append(texts) => {
                    let there = self.value(&key, &setting.name)?;
                    let mut all = there.and_then(|value| value.as_multi()).unwrap_or_default();
                    let known = |all: &[String], text: &str| {
                        all.iter().any(|own| own.eq_ignore_ascii_case(text))
                    };
                    for text in texts {
                        if !known(&all, text) {
                            all.push(text.clone());
                        }
                    }
                    self.set(&key, &setting.name, &Value::multi(&all))?;
                }
            }
        }
        Ok(())
    }

    /// Writes down what the lines say, as the driver database keeps it for later: the upper half of a value's type says
    /// that it is a default (0x2) or is appended (0x4).
    pub(super) fn keep(&mut self, base: &str, settings: &[Setting]) -> Result<()> {
        const DEFAULT: u32 = 0x2_0000;
        const APPENDED: u32 = 0x4_0000;
        for setting in settings {
            let key = below(base, &setting.key);
            let marked = |value: Value, mark: u32| Value {
                kind: Kind(value.kind.0 | mark),
                ..value
            };
            let value = match &setting.action {
                Action::Key => {
                    self.create(&key)?;
                    continue;
                }
                Action::Set(value) => value.clone(),
                Action::Default(value) => marked(value.clone(), DEFAULT),
                Action::Append(texts) => marked(Value::multi(texts), APPENDED),
            };
            self.set(&key, &setting.name, &value)?;
        }
        Ok(())
    }

    fn hive(&self) -> &Hive {
        match self.which {
            Which::System => self.context.registry.system(),
            Which::Software => self.context.registry.software(),
        }
    }

    pub(super) fn value(&self, key: &str, name: &str) -> Result<Option<Value>> {
        let value = self.hive().value(key, name);
        value.map_err(failed(self.which.name()))
    }

    pub(super) fn has(&self, key: &str) -> Result<bool> {
        self.hive().has(key).map_err(failed(self.which.name()))
    }
}

/// `BASE\KEY`, or the base itself.
pub(super) fn below(base: &str, key: &str) -> String {
    if key.is_empty() {
        base.to_owned()
    } else {
        format!("{base}\\{key}")
    }
}
