//! hiberfil.sys: hibernation and fast startup. A sleeping Windows has its file systems in memory; writing to them now would
//! damage them when it resumes.

use std::io::Read;

use types::{Concern, Severity, WindowsInfo};

use crate::windows::convert::Context;
use crate::windows::files;
use crate::windows::inspect::reader::Reader;
use crate::{Error, ErrorKind, Result, Root};

const FILE: &str = "/hiberfil.sys";
/// The header is the first page.
const HEADER: u64 = 4096;
/// What the header begins with while there is something to resume (PO_MEMORY_IMAGE.Signature, `hibr` before Windows 8),
/// and while that is being done.
const ASLEEP: [&[u8; 4]; 4] = [b"hibr", b"HIBR", b"rstr", b"RSTR"];

/// The file as spelled on the disk when Windows sleeps in it. A header of zeroes, or one of a system that woke up
/// (`wake`), has nothing to lose.
fn asleep(root: &Root) -> Result<Option<String>> {
    let Some(path) = files::find(root, FILE) else {
        return Ok(None);
    };
    let mut header = Vec::new();
    root.open_file(&path)?
        .take(HEADER)
        .read_to_end(&mut header)
        .map_err(|error| Error::io("reading", error).at(&path))?;
    let asleep = ASLEEP
        .iter()
        .any(|signature| header.starts_with(*signature));
    Ok(asleep.then_some(path))
}

/// Fast startup is how this Windows shuts down; its image has the same signature as that of hibernation.
fn has_fast_startup(reader: &Reader<'_>, windows: &WindowsInfo) -> bool {
    (windows.major, windows.minor) >= (6, 2)
        && reader
            .control()
            .is_set("Control\\Session Manager\\Power", "HiberbootEnabled")
}

fn what(fast_startup: bool) -> String {
    let how = if fast_startup {
        "Windows is hibernated, or was shut down with fast startup, which is the same to its disks"
    } else {
        "Windows is hibernated"
    };
    format!("{how} (hiberfil.sys holds what it had in memory)")
}

fn fix(windows: &WindowsInfo) -> String {
    let commands = if windows.major >= 6 {
        "`powercfg /h off` and then `shutdown /s /t 0`"
    } else {
        "`powercfg /hibernate off` and then `shutdown -s -t 0`"
    };
    format!(
        "start it at its source and run, as administrator, {commands}; or convert it with --force-hibernated, which throws \
         away what it had in memory: open files of its users, and perhaps changes that were not yet on its disks"
    )
}

/// The blocker that it is.
pub(crate) fn concern(root: &Root, reader: &Reader<'_>, windows: &WindowsInfo) -> Option<Concern> {
    let what = match asleep(root) {
        Ok(None) => return None,
        Ok(Some(_)) => what(has_fast_startup(reader, windows)),
        Err(error) => format!(
            "it can't be told whether Windows is hibernated: {}",
            error.chain()
        ),
    };
    Some(Concern {
        severity: Severity::Blocker,
        what,
        fix: Some(fix(windows)),
    })
}

/// Refuses a sleeping guest, unless that is what was asked for.
pub(crate) fn check(context: &Context<'_>) -> Result<()> {
    let Some(path) = asleep(context.root)? else {
        return Ok(());
    };
    if context.options.force_hibernated {
        return Ok(());
    }
    let current = context.windows.control_sets.first();
    let reader = Reader::new(&context.registry, current.map_or("", String::as_str));
    let message = format!(
        "{}: {}",
        what(has_fast_startup(&reader, context.windows)),
        fix(context.windows)
    );
    Err(Error::new(ErrorKind::Refused, message).at(path))
}

/// Step: throws the image away. The whole file goes, as its room need not be copied then; Windows makes a new one when it
/// needs it (powercfg, `/hibernate`).
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let Some(path) = asleep(context.root)? else {
        context.recorder.not_needed("Windows is not hibernated");
        return Ok(());
    };
    context.recorder.warn(
        "Windows was hibernated; what it had in memory is thrown away, and its file systems are as after a loss of power",
    );
    // It may be as large as the memory: it is not hashed.
    context.root.remove(&path)?;
    context.recorder.record(
        &path,
        Some("hibernated".to_owned()),
        None,
        "what is in it does not fit the new machine (--force-hibernated)",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tree::put_at;

    #[test]
    fn only_a_header_with_something_to_resume_is_sleep() {
        for (header, sleeps) in [
            (&b"hibr"[..], true),
            (b"HIBR\x01", true),
            (b"RSTR", true),
            (b"wake", false),
            (b"WAKE", false),
            (&[0; 8192], false),
            (b"hib", false),
            (b"", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            put_at(dir.path(), "HIBERFIL.SYS", header);
            let root = Root::open(dir.path()).unwrap();
            assert_eq!(asleep(&root).unwrap().is_some(), sleeps, "{header:?}");
        }
    }
}
