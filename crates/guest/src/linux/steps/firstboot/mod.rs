//! Scripts that the guest runs once, at its first boot.
//!
//! ```text
//!   /var/lib/v2v/firstboot/run            the runner (run.sh), POSIX shell
//!   /var/lib/v2v/firstboot/hooks          what starts it, for it to take away at the end
//!   /var/lib/v2v/firstboot/scripts/NNN-*  to do ──> running/ ──> done/
//!   /var/log/v2v-firstboot.log            what they said
//! ```
//!
//! Below /var because that is writable where /usr is not; run as `/bin/sh FILE` because /var may be mounted noexec and
//! because its SELinux type is none that init may execute. Whatever starts the runner never waits for it.

mod hooks;

use crate::linux::convert::Context;
use crate::root::join;
use crate::{Recorder, Result};

/// Everything that this step brings, apart from what starts it.
const DIR: &str = "/var/lib/v2v/firstboot";
const RUNNER: &str = include_str!("run.sh");
const WHY: &str = "runs at the first boot";
/// File names hold this much of a script's name.
const NAME_MAX: usize = 60;

/// What the other steps want run at the first boot.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    scripts: Vec<Script>,
    /// One of them wants the network.
    network: bool,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Script {
    /// Lower-case words with dashes, for the log and the file name.
    pub(crate) name: String,
    /// Run by /bin/sh unless it begins with `#!`.
    pub(crate) body: String,
    /// Tried once more when the machine was reset while it ran.
    pub(crate) repeatable: bool,
}

impl Scripts {
    /// One more, after those that are there. It is begun once and never again, even when the machine is reset.
    pub(crate) fn add(&mut self, name: &str, body: impl Into<String>) {
        self.push(name, body.into(), false);
    }

    /// [`add`](Self::add) for one that may be begun a second time when the machine was reset while it ran.
    pub(crate) fn add_repeatable(&mut self, name: &str, body: impl Into<String>) {
        self.push(name, body.into(), true);
    }

    /// The scripts run when the network is up, where the guest can tell.
    pub(crate) fn want_network(&mut self) {
        self.network = true;
    }

    fn push(&mut self, name: &str, body: String, repeatable: bool) {
        let name = name.to_owned();
        self.scripts.push(Script {
            name,
            body,
            repeatable,
        });
    }
}

impl Script {
    /// `007-name`, with `.again` where it may be repeated: the runner goes by the name.
    fn file_name(&self, number: usize) -> String {
        let plain = |c: char| {
            let lower = c.to_ascii_lowercase();
            if lower.is_ascii_alphanumeric() {
                lower
            } else {
                '-'
            }
        };
        let name: String = self.name.chars().take(NAME_MAX).map(plain).collect();
        let suffix = if self.repeatable { ".again" } else { "" };
        format!("{number:03}-{}{suffix}", name.trim_matches('-'))
    }
}

pub(crate) fn applies(context: &Context<'_>) -> bool {
    !context.firstboot.scripts.is_empty()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let Some(hooks) = hooks::hooks(context, context.firstboot.network) else {
        let names: Vec<&str> = context
            .firstboot
            .scripts
            .iter()
            .map(|script| script.name.as_str())
            .collect();
        let names = names.join(", ");
        let recorder = &mut context.recorder;
        recorder.warn(format!(
            "nothing is known that starts a script at boot here; do by hand what these would have done: {names}"
        ));
        recorder.skip("the guest's init is not known");
        return Ok(());
    };
    let scripts = std::mem::take(&mut context.firstboot.scripts);
    let recorder = &mut context.recorder;
    let dir = join(DIR, "scripts");
    let mut names = Vec::new();
    for (index, script) in scripts.iter().enumerate() {
        let name = script.file_name(index + 1);
        let path = join(&dir, &name);
        // They may hold passwords, so they are root's alone.
        recorder.write_mode(&path, script.body.as_bytes(), 0o700, WHY)?;
        names.push(name);
    }
    remove_stale(recorder, &dir, &names)?;
    recorder.write_mode(&join(DIR, "run"), RUNNER.as_bytes(), 0o755, WHY)?;
    let list: String = hooks.iter().map(hooks::Hook::line).collect();
    recorder.write_mode(&join(DIR, "hooks"), list.as_bytes(), 0o644, WHY)?;
    for hook in &hooks {
        hook.install(recorder)?;
    }
    Ok(())
}

/// Scripts of an earlier conversion of this same guest, which has not booted since: what is asked for now counts.
fn remove_stale(recorder: &mut Recorder<'_>, dir: &str, names: &[String]) -> Result<()> {
    for old in recorder.root().names(dir) {
        if !names.contains(&old) {
            recorder.remove(&join(dir, &old), "belongs to an earlier conversion")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
