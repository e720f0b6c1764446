//! The hive: its keys and values by path.

use crate::{Result, Value};

/// A hive in memory.
#[derive(Clone, Debug)]
pub struct Hive {
    bytes: Vec<u8>,
}

/// What a full walk has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys.
    pub keys: u64,
    /// Values.
    pub values: u64,
    /// Distinct security descriptors.
    pub descriptors: u64,
    /// Bytes of cells in use.
    pub used_bytes: u64,
    /// Bytes of free cells.
    pub free_bytes: u64,
}

impl Hive {
    /// Takes a hive that was closed cleanly; `Dirty` for another ([`recover`](Self::recover) is for those).
    pub fn open(primary: Vec<u8>) -> Result<Self> {
        let _ = primary;
        unimplemented!()
    }

    /// An empty hive with a root key of this name and a plain security descriptor, as `reg` would save it.
    pub fn create(root_name: &str) -> Self {
        let _ = root_name;
        unimplemented!()
    }

    /// True when there is a key of this path.
    pub fn has(&self, path: &str) -> Result<bool> {
        let _ = path;
        unimplemented!()
    }

    /// Names of the keys below, in the order of the hive (sorted without case); none where the key is not there.
    pub fn keys(&self, path: &str) -> Result<Vec<String>> {
        let _ = path;
        unimplemented!()
    }

    /// Names and values in the order of the hive; the default value has an empty name. None where the key is not there.
    pub fn values(&self, path: &str) -> Result<Vec<(String, Value)>> {
        let _ = path;
        unimplemented!()
    }

    /// One value; `None` where it or its key is not there.
    pub fn value(&self, path: &str, name: &str) -> Result<Option<Value>> {
        let _ = (path, name);
        unimplemented!()
    }

    /// The key's class name.
    pub fn class(&self, path: &str) -> Result<Option<String>> {
        let _ = path;
        unimplemented!()
    }

    /// When the key was last written, as a FILETIME (100 ns since 1601).
    pub fn written(&self, path: &str) -> Result<Option<u64>> {
        let _ = path;
        unimplemented!()
    }

    /// Creates a key and the missing ones above it, with its parent's security descriptor. False when it was there.
    pub fn create_key(&mut self, path: &str) -> Result<bool> {
        let _ = path;
        unimplemented!()
    }

    /// Sets a value; its key and the missing ones above are created. False when it was so already.
    pub fn set(&mut self, path: &str, name: &str, value: &Value) -> Result<bool> {
        let _ = (path, name, value);
        unimplemented!()
    }

    /// Deletes a value. False when there was none.
    pub fn delete_value(&mut self, path: &str, name: &str) -> Result<bool> {
        let _ = (path, name);
        unimplemented!()
    }

    /// Deletes a key and all below it. False when there was none.
    pub fn delete_key(&mut self, path: &str) -> Result<bool> {
        let _ = path;
        unimplemented!()
    }

    /// True when something was changed since it was opened.
    pub fn is_changed(&self) -> bool {
        unimplemented!()
    }

    /// Walks the whole hive: every cell, list, key, value and descriptor, each reached once.
    pub fn verify(&self) -> Result<Summary> {
        unimplemented!()
    }

    /// The file: sequence numbers equal, `now` (FILETIME) as its time of writing, the checksum right.
    pub fn to_bytes(&self, now: u64) -> Vec<u8> {
        let _ = now;
        self.bytes.clone()
    }
}
