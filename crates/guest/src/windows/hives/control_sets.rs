//! The control sets of SYSTEM and the values of Select that name them (Windows Internals, "The Registry", Select).
//!
//! | Select | |
//! |---|---|
//! | Current | what Windows ran with last: what the machine is |
//! | Default | what the boot loader takes next |
//! | LastKnownGood | what it takes when the administrator asks for it, or by itself after a failed start |
//! | Failed | what Default was when LastKnownGood was taken: nothing starts from it, so it stays as it is |

use registry::{Hive, Value};

use super::{Registry, Which, failed};
use crate::{Error, Recorder, Result};

/// Control sets have three digits.
const NUMBER_MAX: u32 = 999;

/// Control sets from which Windows may start, `ControlSet001` …: Current first, each once, only those that are there.
pub(crate) fn control_sets(system: &Hive) -> Result<Vec<String>> {
    let mut sets: Vec<String> = Vec::new();
    for name in ["Current", "Default", "LastKnownGood"] {
        let number = system.value("Select", name).map_err(failed("SYSTEM"))?;
        let number = number.and_then(|value| value.as_u32());
        let Some(number) = number.filter(|number| (1..=NUMBER_MAX).contains(number)) else {
            continue;
        };
        let set = format!("ControlSet{number:03}");
        if !sets.contains(&set) && system.has(&set).map_err(failed("SYSTEM"))? {
            sets.push(set);
        }
    }
    if sets.is_empty() {
        let message = "expected Select to name a control set that is there";
        return Err(Error::corrupt(message).at("SYSTEM"));
    }
    Ok(sets)
}

impl Registry {
    /// See [`control_sets`].
    pub(crate) fn control_sets(&self) -> Result<Vec<String>> {
        control_sets(self.system()).map_err(|error| error.at(&self.system.path))
    }

    /// Sets the same value in every control set from which Windows may start; `below` is a path below the set, such as
    /// `Services\\viostor`. True when any of them changed.
    pub(crate) fn set_in_control_sets(
        &mut self,
        recorder: &mut Recorder<'_>,
        below: &str,
        name: &str,
        value: &Value,
        why: &str,
    ) -> Result<bool> {
        let mut changed = false;
        for set in self.control_sets()? {
            let path = format!("{set}\\{below}");
            changed |= self.set(recorder, Which::System, &path, name, value, why)?;
        }
        Ok(changed)
    }
}
