//! Scripts that the guest runs once, at its first boot.

use crate::Result;
use crate::linux::convert::Context;

/// What the other steps want run at the first boot.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    scripts: Vec<Script>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Script {
    /// Lower-case words with dashes, for the log and the file name.
    pub(crate) name: String,
    /// Run by /bin/sh unless it begins with `#!`.
    pub(crate) body: String,
}

impl Scripts {
    /// One more, after those that are there.
    pub(crate) fn add(&mut self, name: &str, body: impl Into<String>) {
        self.scripts.push(Script {
            name: name.to_owned(),
            body: body.into(),
        });
    }
}

pub(crate) fn applies(context: &Context<'_>) -> bool {
    !context.firstboot.scripts.is_empty()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    for script in std::mem::take(&mut context.firstboot.scripts) {
        let path = format!("/usr/local/lib/v2v/firstboot.d/{}", script.name);
        context.recorder.write_mode(
            &path,
            script.body.as_bytes(),
            0o755,
            "runs at the first boot",
        )?;
    }
    Ok(())
}
