//! The old machine's boot menu in a file of firmware variables for the new one.
//!
//! ```text
//! template of the host's firmware ─┐
//!                                  ├─> NAME_VARS.fd, beside the disks
//! boot options, first one first ───┘
//! ```
//!
//! Without such a file the firmware starts the fallback loader, `\EFI\BOOT\BOOTX64.EFI`, which conversion has put there: what is
//! lost then is the choice among several systems, and what a program was told.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use types::Firmware as Kind;
use uefi::{LoadOption, Store, menu};

use crate::domain::DomainSpec;
use crate::domain::platform::Platform;
use crate::firmware::{Dirs, Firmware};
use crate::stage::Stage;
use crate::{Finished, Plan, Result};

/// Longest template that is read, in bytes: those for ARM have 64 MiB.
const MAX_TEMPLATE: u64 = 64 << 20;
/// What Windows' boot manager is told begins with this; it starts without as well.
const WINDOWS_DATA: &[u8] = b"WINDOWS\0";

/// Name of the file beside the disks; the start script of `-o qemu` has always called it so.
pub(crate) fn file_name(name: &str) -> String {
    format!("{name}_VARS.fd")
}

/// Whether a result may have such a file, as far as is known.
pub(crate) fn may_be(plan: &Plan<'_>) -> bool {
    let known = plan.caps.and_then(|caps| caps.firmware);
    known.or(plan.machine.firmware) == Some(Kind::Uefi)
}

/// Variables for a domain, and the firmware that they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Made {
    firmware: Firmware,
    content: Vec<u8>,
}

/// Where a domain finds its firmware and its variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvramPaths {
    /// The firmware's program.
    pub code: PathBuf,
    /// Template that the variables were made from.
    pub template: PathBuf,
    /// The domain's own variables.
    pub file: PathBuf,
}

/// Makes the variables of a domain whose disks are beside them, and says so in `spec` and `names`; a note where there are none.
pub(crate) fn give(
    stage: &Stage,
    finished: &Finished<'_>,
    dirs: &Dirs,
    spec: &mut DomainSpec<'_>,
    names: &mut Vec<String>,
) -> Result<Option<String>> {
    let options = finished.boot_options;
    let platform = Platform::of(spec, &mut Vec::new())?;
    if platform.firmware != Kind::Uefi || options.is_empty() {
        return Ok(None);
    }
    match for_domain(dirs, platform, options) {
        Ok(made) => {
            let name = file_name(&stage.name);
            stage.write_file(&name, &made.content, 0o644)?;
            spec.nvram = Some(NvramPaths {
                code: made.firmware.code,
                template: made.firmware.vars,
                file: stage.dir.join(&name),
            });
            names.push(name);
            Ok(None)
        }
        Err(why) => Ok(left_out(options, &why)),
    }
}

/// A note on a menu that goes nowhere, where that matters.
pub(crate) fn lost(
    spec: &DomainSpec<'_>,
    finished: &Finished<'_>,
    why: &str,
) -> Result<Option<String>> {
    let platform = Platform::of(spec, &mut Vec::new())?;
    let is_uefi = platform.firmware == Kind::Uefi;
    Ok(left_out(finished.boot_options, why).filter(|_| is_uefi))
}

/// Writes the menu into the template of the host's firmware for this platform. The error says why not.
fn for_domain(dirs: &Dirs, platform: Platform, options: &[Vec<u8>]) -> Result<Made, String> {
    let firmware = dirs
        .find(platform)
        .ok_or("this host describes no UEFI firmware with raw variables for the guest")?;
    let content = from_template(&firmware.vars, options)?;
    Ok(Made { firmware, content })
}

/// The template with these options. The error says why not.
pub(crate) fn from_template(template: &Path, options: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let shown = template.display();
    let flash = read(template).map_err(|error| format!("{shown}: {error}"))?;
    let store = Store::open(flash).map_err(|error| format!("{shown}: {error}"))?;
    with_menu(store, options)
}

/// A store with these options. The error says why not.
pub(crate) fn with_menu(mut store: Store, options: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    menu::add(&mut store, options).map_err(|error| error.to_string())?;
    Ok(store.bytes().to_vec())
}

/// What the user should know where the menu was left out; `None` where the fallback loader does as well.
pub(crate) fn left_out(options: &[Vec<u8>], why: &str) -> Option<String> {
    let is_told = |option: &Vec<u8>| {
        LoadOption::parse(option)
            .is_ok_and(|option| !option.data.is_empty() && !option.data.starts_with(WINDOWS_DATA))
    };
    let is_lost = options.len() > 1 || options.iter().any(is_told);
    let entries = match options.len() {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    };
    is_lost.then(|| format!("the firmware's boot menu ({entries}) was left out: {why}"))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(MAX_TEMPLATE)
        .read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use uefi::Layout;
    use uefi::device_path::{HardDrive, Signature};

    /// An entry for the first partition.
    pub(crate) fn option(description: &str, data: &[u8]) -> Vec<u8> {
        let drive = HardDrive {
            number: 1,
            start_blocks: 2048,
            size_blocks: 204_800,
            signature: Signature::Mbr(7),
        };
        let option = LoadOption::new(description, &drive, r"\EFI\x.efi", data.to_vec());
        option.unwrap().to_bytes()
    }

    #[test]
    fn a_template_gets_the_menu() {
        let dir = tempfile::tempdir().unwrap();
        let template = dir.path().join("VARS.fd");
        std::fs::write(&template, Store::empty(Layout::Ovmf4M).bytes()).unwrap();
        let options = [option("a", b""), option("b", b"")];
        let made = from_template(&template, &options).unwrap();
        assert_eq!(menu::read(&made).unwrap(), options);
        assert_eq!(made.len(), 0x84000);
    }

    #[test]
    fn a_template_of_another_kind_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let template = dir.path().join("VARS.qcow2");
        std::fs::write(&template, b"QFI\xfb").unwrap();
        let error = from_template(&template, &[]).unwrap_err();
        assert!(
            error.contains("VARS.qcow2") && error.contains("_FVH"),
            "{error}"
        );
        assert!(from_template(&dir.path().join("absent"), &[]).is_err());
        let full = with_menu(Store::empty(Layout::Ovmf2M), &[vec![0; 0xe000]]);
        assert!(full.unwrap_err().contains("free"));
    }

    #[test]
    fn a_host_without_firmware_gives_no_variables_and_says_so() {
        let sample = crate::domain::samples::uefi();
        let platform = Platform::of(&sample.spec(), &mut Vec::new()).unwrap();
        let why = for_domain(&Dirs::of([]), platform, &[option("a", b"")]).unwrap_err();
        assert!(why.contains("no UEFI firmware"), "{why}");
    }

    #[test]
    fn only_a_loss_is_worth_a_word() {
        let quiet = [
            vec![],
            vec![option("debian", b"")],
            vec![option("Windows Boot Manager", b"WINDOWS\0\x01")],
        ];
        for options in quiet {
            assert_eq!(left_out(&options, "why"), None);
        }
        let one = left_out(&[option("kernel", b"r\0o\0")], "why").unwrap();
        assert_eq!(one, "the firmware's boot menu (1 entry) was left out: why");
        let two = left_out(&[option("a", b""), option("b", b"")], "why").unwrap();
        assert!(two.contains("(2 entries)"), "{two}");
    }
}
