//! `--run`, `--run-command`: the only place where programs of the guest run, and only if that was allowed. What runs
//! them, and what they can reach, is the caller's business ([`GuestCode`]).

use types::Arch;

use crate::linux::convert::Context;
use crate::{Error, ErrorKind, Result};

/// Runs scripts with the guest's own programs.
pub trait GuestCode: std::fmt::Debug {
    /// Runs `script` with the guest's root as its root: by its `#!` line, or by /bin/sh. `Err` says in one line how it
    /// failed; its output goes to the log.
    fn run(&self, name: &str, script: &str) -> Result<(), String>;
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Refused, message)
}

/// Refuses what cannot be run.
pub(super) fn check(context: &Context<'_>, name: &str) -> Result<()> {
    if !context.options.allow_guest_code {
        return Err(refused(format!(
            "running {name} needs --allow-guest-code: it runs programs of the guest"
        )));
    }
    if context.guest_code.is_none() {
        return Err(refused(format!("running {name} is not possible here")));
    }
    let runs = matches!(
        (context.guest.arch, std::env::consts::ARCH),
        (Arch::X86_64 | Arch::I686, "x86_64") | (Arch::Aarch64, "aarch64")
    );
    if runs {
        return Ok(());
    }
    Err(refused(format!(
        "running {name} is not possible: the guest's programs are for {:?}, the appliance is {}",
        context.guest.arch,
        std::env::consts::ARCH
    )))
}

pub(super) fn apply(context: &mut Context<'_>, name: &str, script: &str) -> Result<()> {
    check(context, name)?;
    let Some(code) = context.guest_code else {
        return Ok(());
    };
    tracing::info!("running {name} in the guest");
    code.run(name, script)
        .map_err(|reason| refused(format!("{name} failed: {reason}")))?;
    let why =
        format!("{name} was run with the guest's own programs; what it changed is not listed");
    let hash = crate::recorder::sha256(script.as_bytes());
    context
        .recorder
        .record("/", Some(hash.clone()), Some(hash), &why);
    if context.guest.selinux {
        // Nobody knows what it made, and the appliance has no policy to label it by.
        context.recorder.write(
            "/.autorelabel",
            b"",
            "files made by scripts have no SELinux label",
        )?;
    }
    Ok(())
}
