//! Scripts that the guest runs once, at its first boot.

/// What the steps want run at the first boot.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    scripts: Vec<Script>,
    files: Vec<(String, Vec<u8>)>,
}

/// When a script runs: all of one phase before the next, each phase in the order of adding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Drivers are installed.
    Drivers,
    /// Adapters get their addresses back.
    Network,
    /// What the old hypervisor left is removed.
    Leftovers,
    /// The guest agent is installed.
    Agent,
    /// `--firstboot`, `--firstboot-command`.
    Customer,
}

/// One of them, a batch file for cmd.exe.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// When.
    pub(crate) phase: Phase,
    /// Lower-case words with dashes, for the log and the file name.
    pub(crate) name: String,
    /// Lines of a batch file, without `@echo off`.
    pub(crate) body: String,
}

impl Scripts {
    /// One more.
    pub(crate) fn add(&mut self, phase: Phase, name: &str, body: impl Into<String>) {
        self.scripts.push(Script {
            phase,
            name: name.to_owned(),
            body: body.into(),
        });
    }

    /// One more that may run again after a reset in its middle.
    pub(crate) fn add_repeatable(&mut self, phase: Phase, name: &str, body: impl Into<String>) {
        self.add(phase, name, body);
    }

    /// A data file beside the scripts: `%V2V_DIR%\NAME`.
    pub(crate) fn file(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        self.files.push((name.to_owned(), content.into()));
    }

    /// The data files.
    pub(crate) fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    /// In the order in which they run.
    pub(crate) fn in_order(&self) -> Vec<&Script> {
        let mut scripts: Vec<&Script> = self.scripts.iter().collect();
        scripts.sort_by_key(|script| script.phase);
        scripts
    }

    /// True when there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }
}
