//! The service that runs the scripts once: program, scripts, the files that they use, and its key in every control set.
//!
//! All lies below %SystemRoot%, whose permissions keep users from writing there; a new folder inherits them (NTFS).

use std::path::Path;

use registry::Value;
use types::Arch;

use crate::windows::convert::Context;
use crate::windows::files;
use crate::windows::hives::Which;
use crate::{Error, ErrorKind, Result};

/// Below %SystemRoot%.
const FOLDER: &str = "v2v/firstboot";
/// Name of the service's key and of its program.
const SERVICE: &str = "v2v-firstboot";
/// The program is no larger.
const PROGRAM_MAX: u64 = 4 << 20;
const WHY: &str = "what is left to do runs once, at the first boot";

/// SERVICE_WIN32_OWN_PROCESS (Microsoft: CreateServiceW).
const OWN_PROCESS: u32 = 0x10;
/// SERVICE_AUTO_START.
const AUTO_START: u32 = 2;
/// SERVICE_ERROR_IGNORE: a boot does not depend on it.
const ERROR_IGNORE: u32 = 0;

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    if context.firstboot.is_empty() {
        context.recorder.not_needed("nothing is left to do");
        return Ok(());
    }
    let program = match program(context) {
        Ok(program) => program,
        Err(error) => {
            let names: Vec<String> = names(context);
            context.recorder.warn(format!(
                "the first-boot service was not installed ({}): by hand remain {}",
                error.chain(),
                names.join(", ")
            ));
            context.recorder.skip(error.chain());
            return Ok(());
        }
    };
    let system_root = &context.windows.system_root;
    let folder = files::place(context.root, &format!("{system_root}/{FOLDER}"));
    write_scripts(context, &folder)?;
    let path = format!("{folder}/{SERVICE}.exe");
    context.recorder.write(&path, &program, WHY)?;
    register(context)
}

fn names(context: &Context<'_>) -> Vec<String> {
    let scripts = context.firstboot.in_order();
    scripts.iter().map(|script| script.name.clone()).collect()
}

/// The program for this architecture. ARM64 runs the one for x86.
fn program(context: &Context<'_>) -> Result<Vec<u8>> {
    let unsupported = |what: &str| Error::new(ErrorKind::Unsupported, what);
    let name = match context.guest.arch {
        Arch::X86_64 => "v2v-firstboot-amd64.exe",
        Arch::I686 | Arch::Aarch64 => "v2v-firstboot-x86.exe",
        _ => return Err(unsupported("there is none for this architecture")),
    };
    let dir = context
        .programs
        .ok_or_else(|| unsupported("its program is not at hand"))?;
    read(&dir.join(name))
}

/// Reads a file of ours, outside of the guest.
fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error| Error::io("reading", error).at(path.display().to_string());
    let len = std::fs::metadata(path).map_err(failed)?.len();
    if len > PROGRAM_MAX {
        let message = format!("expected at most {PROGRAM_MAX} bytes, found {len}");
        return Err(Error::new(ErrorKind::Limit, message).at(path.display().to_string()));
    }
    std::fs::read(path).map_err(failed)
}

/// Scripts and files; scripts that an earlier conversion left are no longer wanted.
fn write_scripts(context: &mut Context<'_>, folder: &str) -> Result<()> {
    let (scripts, left_out) = context.firstboot.batch_files(context.windows.major >= 6);
    let left_out: Vec<String> = left_out.into_iter().map(str::to_owned).collect();
    let dir = files::place(context.root, &format!("{folder}/scripts"));
    for name in context.root.names(&dir) {
        let wanted = scripts
            .iter()
            .any(|script| script.name.eq_ignore_ascii_case(&name));
        if !wanted && context.root.is_file(&format!("{dir}/{name}")) {
            let why = "left by an earlier conversion";
            context.recorder.remove(&format!("{dir}/{name}"), why)?;
        }
    }
    // Reboots and attempts of that one are not of this one.
    context
        .recorder
        .remove(&format!("{folder}/state"), "left by an earlier conversion")?;
    for (name, content) in context.firstboot.files() {
        let path = files::place(context.root, &format!("{folder}/{name}"));
        context.recorder.write(&path, content, WHY)?;
    }
    for script in &scripts {
        let path = files::place(context.root, &format!("{dir}/{}", script.name));
        context.recorder.write(&path, &script.content, WHY)?;
        if script.foreign && context.windows.major < 6 {
            context.recorder.warn(format!(
                "the first-boot script {} has characters beyond ASCII, which cmd.exe of this Windows reads in its own \
                 code page",
                script.name
            ));
        }
    }
    if !left_out.is_empty() {
        context.recorder.warn(format!(
            "too many first-boot scripts: these will not run: {}",
            left_out.join(", ")
        ));
    }
    Ok(())
}

/// The key of the service, in the current control set and in those that Windows may fall back to.
fn register(context: &mut Context<'_>) -> Result<()> {
    let image = format!(
        "\"%SystemRoot%\\{}\\{SERVICE}.exe\" service",
        FOLDER.replace('/', "\\")
    );
    let values = [
        ("Type", Value::dword(OWN_PROCESS)),
        ("Start", Value::dword(AUTO_START)),
        ("ErrorControl", Value::dword(ERROR_IGNORE)),
        ("ImagePath", Value::expand(&image)),
        ("ObjectName", Value::text("LocalSystem")),
        ("DisplayName", Value::text("v2v first boot")),
        (
            "Description",
            Value::text("Finishes the move to KVM at the first boot, then removes itself."),
        ),
    ];
    for set in &context.windows.control_sets {
        let key = format!("{set}\\Services\\{SERVICE}");
        let (recorder, registry) = (&mut context.recorder, &mut context.registry);
        registry.create_key(recorder, Which::System, &key, WHY)?;
        for (name, value) in &values {
            registry.set(recorder, Which::System, &key, name, value, WHY)?;
        }
        // Of a service that was disabled or marked for deletion.
        for name in ["DeleteFlag", "DelayedAutoStart", "DependOnService"] {
            registry.delete_value(recorder, Which::System, &key, name, WHY)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
