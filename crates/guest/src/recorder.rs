//! Changes files of the guest and writes down every change: step, file, hash before and after, and why.
//!
//! A change that would leave a file as it is, is none: that is what makes every step idempotent.

use std::io::{Read, Write};

use sha2::{Digest, Sha256};
use types::{Change, StepOutcome, StepReport};

use crate::linux::escapes::printable;
use crate::root::{CONFIG_MAX, INITRD_MAX, Kind, Root};
use crate::{ErrorKind, Result};

mod files;

pub(crate) use files::digest;

/// More warnings than these are left out: nobody reads them, and a hostile guest has as many as it likes.
const WARNINGS_MAX: usize = 500;

/// The only way in which steps change the guest.
#[derive(Debug)]
pub struct Recorder<'r> {
    root: &'r Root,
    step: String,
    changes: Vec<Change>,
    warnings: Vec<String>,
    unlabelled: Vec<String>,
    made_dirs: Vec<String>,
    /// Changes before the present step.
    before: usize,
    /// Why the present step could not do all that it should.
    skipped: Option<String>,
    /// Why the present step had nothing to do.
    not_needed: Option<String>,
    steps: Vec<StepReport>,
}

impl<'r> Recorder<'r> {
    /// Nothing changed yet.
    pub fn new(root: &'r Root) -> Self {
        Self {
            root,
            step: String::new(),
            changes: Vec::new(),
            warnings: Vec::new(),
            unlabelled: Vec::new(),
            made_dirs: Vec::new(),
            before: 0,
            skipped: None,
            not_needed: None,
            steps: Vec::new(),
        }
    }

    /// Changes from now on belong to this step.
    pub fn begin(&mut self, step: &str) {
        step.clone_into(&mut self.step);
        self.before = self.changes.len();
        (self.skipped, self.not_needed) = (None, None);
    }

    /// The present step cannot do what it should; `reason` is for the report.
    pub fn skip(&mut self, reason: impl Into<String>) {
        self.skipped
            .get_or_insert(printable(&reason.into()).into_owned());
    }

    /// The present step has nothing to do; `reason` is for the report.
    pub fn not_needed(&mut self, reason: impl Into<String>) {
        self.not_needed
            .get_or_insert(printable(&reason.into()).into_owned());
    }

    /// Writes down what became of the present step.
    pub fn end(&mut self) {
        let changed = self.changes.len() > self.before;
        let (outcome, reason) = match (self.skipped.take(), changed) {
            (Some(reason), _) => (StepOutcome::Skipped, reason),
            (None, true) => (StepOutcome::Applied, String::new()),
            (None, false) => {
                let reason = self.not_needed.take();
                let reason = reason.unwrap_or_else(|| "nothing of it is in this guest".to_owned());
                (StepOutcome::NotNeeded, reason)
            }
        };
        self.steps.push(StepReport {
            name: self.step.clone(),
            outcome,
            reason,
        });
    }

    /// The step was not finished, and the guest can do without it.
    pub(crate) fn not_finished(&mut self, error: &crate::Error) {
        let reason = error.chain();
        self.warn(format!("step {} was not finished: {reason}", self.step));
        self.skip(reason);
    }

    /// The guest.
    pub fn root(&self) -> &'r Root {
        self.root
    }

    /// Something that the administrator should know; said once.
    pub fn warn(&mut self, message: impl Into<String>) {
        let message = printable(&message.into()).into_owned();
        if self.warnings.len() > WARNINGS_MAX || self.warnings.contains(&message) {
            return;
        }
        if self.warnings.len() == WARNINGS_MAX {
            self.warnings
                .push("there is more to warn of than is shown".to_owned());
            return;
        }
        tracing::warn!("{}: {message}", self.step);
        self.warnings.push(message);
    }

    /// Creates or replaces a file. False when it had this content already.
    pub fn write(&mut self, path: &str, content: &[u8], why: &str) -> Result<bool> {
        self.write_mode(path, content, 0o644, why)
    }

    /// [`write`](Self::write) with the mode that a new file gets.
    pub fn write_mode(
        &mut self,
        path: &str,
        content: &[u8],
        new_mode: u32,
        why: &str,
    ) -> Result<bool> {
        let before = match self.root.read(path, CONFIG_MAX.max(content.len() as u64)) {
            Ok(old) if old == content => return Ok(false),
            Ok(old) => Some(sha256(&old)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) if error.kind() == ErrorKind::Limit => Some(self.hash(path)?),
            Err(error) => return Err(error),
        };
        if before.is_none() {
            self.make_parent(path)?;
        }
        self.root.write(path, content, new_mode)?;
        self.record(path, before, Some(sha256(content)), why);
        Ok(true)
    }

    /// Edits a text file; `edit` gets its content and returns the new one, or `None` to leave it. Each byte is one
    /// character, so whatever is not ASCII comes back as it was. False when nothing changed or there is no such file.
    pub fn edit(
        &mut self,
        path: &str,
        why: &str,
        edit: impl FnOnce(&str) -> Option<String>,
    ) -> Result<bool> {
        let old = match self.root.read(path, CONFIG_MAX) {
            Ok(old) => old,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(new) = edit(&from_bytes(&old)) else {
            return Ok(false);
        };
        self.write(path, &to_bytes(&new), why)
    }

    /// Removes a file or link. False when there was none.
    pub fn remove(&mut self, path: &str, why: &str) -> Result<bool> {
        let Some(before) = self.hash_if_there(path)? else {
            return Ok(false);
        };
        self.root.remove(path)?;
        self.record(path, Some(before), None, why);
        Ok(true)
    }

    /// Renames a file or link; recorded as one removed and one made.
    pub fn rename(&mut self, from: &str, to: &str, why: &str) -> Result<()> {
        let hash = self.hash_if_there(from)?;
        let there = self.hash_if_there(to)?;
        self.root.rename(from, to)?;
        self.record(from, hash.clone(), None, why);
        self.record(to, there, hash, why);
        Ok(())
    }

    /// Makes a symbolic link, in place of whatever file or link is there. Its hash is that of its target's text.
    pub fn symlink(&mut self, path: &str, target: &str, why: &str) -> Result<bool> {
        if self.root.read_link(path).is_ok_and(|old| old == target) {
            return Ok(false);
        }
        let before = self.hash_if_there(path)?;
        if before.is_some() {
            self.root.remove(path)?;
        } else {
            self.make_parent(path)?;
        }
        self.root.symlink(path, target)?;
        self.record(path, before, Some(sha256(target.as_bytes())), why);
        Ok(true)
    }

    /// Creates a file beside nothing by copying another one of the guest.
    pub fn copy(&mut self, from: &str, to: &str, why: &str) -> Result<bool> {
        let content = self.root.read(from, 64 << 20)?;
        self.write(to, &content, why)
    }

    /// SHA-256 of a file, in hexadecimal.
    pub fn hash(&self, path: &str) -> Result<String> {
        let mut file = self.root.open_file(path)?.take(INITRD_MAX);
        let mut hasher = Sha256::new();
        let mut buffer = vec![0u8; 128 << 10];
        loop {
            let len = file
                .read(&mut buffer)
                .map_err(|error| crate::Error::io("reading", error).at(path))?;
            if len == 0 {
                return Ok(hex(&hasher.finalize()));
            }
            hasher.update(buffer.get(..len).unwrap_or_default());
        }
    }

    /// Writes down a change that was made by other means.
    pub fn record(&mut self, path: &str, before: Option<String>, after: Option<String>, why: &str) {
        tracing::debug!("{}: {path}: {why}", self.step);
        if before.is_none() && after.is_some() && !self.root.has_label(path) {
            self.unlabelled.push(path.to_owned());
        }
        self.changes.push(Change {
            step: self.step.clone(),
            path: path.to_owned(),
            before,
            after,
            why: printable(why).into_owned(),
        });
    }

    /// Creates a directory and the missing ones above it; they are labelled with the files at the end.
    pub(crate) fn create_dir_all(&mut self, path: &str) -> Result<()> {
        let missing: Vec<&str> = path
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([path.len()])
            .filter_map(|end| path.get(..end).filter(|dir| !dir.is_empty()))
            .filter(|dir| !self.root.is_dir(dir))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.root.create_dir_all(path)?;
        self.made_dirs
            .extend(missing.into_iter().map(str::to_owned));
        Ok(())
    }

    fn make_parent(&mut self, path: &str) -> Result<()> {
        match crate::root::split(path) {
            Ok((dir, _)) => self.create_dir_all(dir),
            Err(_) => Ok(()),
        }
    }

    /// Directories that were made.
    pub(crate) fn made_dirs(&self) -> &[String] {
        &self.made_dirs
    }

    /// Files that were made and could not be given an SELinux label.
    pub(crate) fn unlabelled(&self) -> &[String] {
        &self.unlabelled
    }

    /// What was changed so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Changes, warnings, and what became of each step.
    pub fn finish(self) -> (Vec<Change>, Vec<String>, Vec<StepReport>) {
        (self.changes, self.warnings, self.steps)
    }

    fn hash_if_there(&self, path: &str) -> Result<Option<String>> {
        match self.root.link_meta(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(meta) if meta.kind == Kind::Symlink => {
                Ok(Some(sha256(self.root.read_link(path)?.as_bytes())))
            }
            Ok(_) => Ok(Some(self.hash(path)?)),
        }
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a Vec cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// One character per byte.
pub(crate) fn from_bytes(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The reverse of [`from_bytes`]; characters that are no byte (only we can have added them) become UTF-8.
pub(crate) fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}
