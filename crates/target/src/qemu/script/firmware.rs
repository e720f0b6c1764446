//! The part of the script that finds UEFI firmware where the distributions put it, and gives the guest its variables.

use std::path::Path;

use uefi::{Layout, Store};

use super::quote;
use crate::domain::platform::Platform;
use crate::nvram;

/// Firmware images `CODE:VARS` in the order in which they are tried: Debian and Ubuntu, Fedora and RHEL, Arch,
/// openSUSE.
const OVMF: &str = "\
/usr/share/OVMF/OVMF_CODE_4M.fd:/usr/share/OVMF/OVMF_VARS_4M.fd
/usr/share/OVMF/OVMF_CODE.fd:/usr/share/OVMF/OVMF_VARS.fd
/usr/share/edk2/ovmf/OVMF_CODE.fd:/usr/share/edk2/ovmf/OVMF_VARS.fd
/usr/share/edk2/x64/OVMF_CODE.4m.fd:/usr/share/edk2/x64/OVMF_VARS.4m.fd
/usr/share/edk2-ovmf/x64/OVMF_CODE.fd:/usr/share/edk2-ovmf/x64/OVMF_VARS.fd
/usr/share/qemu/ovmf-x86_64-4m-code.bin:/usr/share/qemu/ovmf-x86_64-4m-vars.bin
/usr/share/qemu/ovmf-x86_64-code.bin:/usr/share/qemu/ovmf-x86_64-vars.bin
";
/// The same with Secure Boot enforced and Microsoft's keys enrolled.
const OVMF_SECURE: &str = "\
/usr/share/OVMF/OVMF_CODE_4M.ms.fd:/usr/share/OVMF/OVMF_VARS_4M.ms.fd
/usr/share/OVMF/OVMF_CODE.ms.fd:/usr/share/OVMF/OVMF_VARS.ms.fd
/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd:/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd
/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin:/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin
";
/// The same for 64-bit ARM.
const AAVMF: &str = "\
/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd:/usr/share/AAVMF/AAVMF_VARS.fd
/usr/share/AAVMF/AAVMF_CODE.fd:/usr/share/AAVMF/AAVMF_VARS.fd
/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw:/usr/share/edk2/aarch64/vars-template-pflash.raw
";

/// The images for this platform, and the package that has them.
fn images(platform: Platform) -> (&'static str, &'static str) {
    match (platform.arch, platform.secure_boot) {
        ("aarch64", _) => (AAVMF, "qemu-efi-aarch64 (Debian) or edk2-aarch64 (Fedora)"),
        (_, true) => (OVMF_SECURE, "ovmf (Debian) or edk2-ovmf (Fedora)"),
        (_, false) => (OVMF, "ovmf (Debian) or edk2-ovmf (Fedora)"),
    }
}

/// The guest's variables with this boot menu: from the template that the script would find on this host, else an empty store
/// of the build that most hosts have. The error says why there are none.
pub(in crate::qemu) fn nvram(platform: Platform, options: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let (list, _) = images(platform);
    let mut pairs = list.lines().filter_map(|line| line.split_once(':'));
    let found =
        pairs.find(|(code, vars)| [code, vars].iter().all(|path| Path::new(path).is_file()));
    match found {
        Some((_, vars)) => nvram::from_template(Path::new(vars), options),
        None if platform.arch == "x86_64" && !platform.secure_boot => {
            nvram::with_menu(Store::empty(Layout::Ovmf4M), options)
        }
        None => Err("this host has no UEFI firmware of its kind".to_owned()),
    }
}

/// The script's lines. Variables of another size belong to another build of the firmware, which cannot use them.
pub(super) fn find(name: &str, platform: Platform) -> String {
    let (list, package) = images(platform);
    format!(
        r#"code=
while IFS=: read -r code vars; do
  [ -r "$code" ] && [ -r "$vars" ] && break
  code=
done <<'END'
{list}END
if [ -z "$code" ]; then
  echo "$0: no UEFI firmware found: install the package {package}" >&2
  exit 1
fi
# The guest's own firmware variables. Those of another size are for another firmware, and stay as they are.
nvram="$(cd -- "$(dirname -- "$0")" && pwd -P)"/{file}
size=$(wc -c <"$vars")
if [ -e "$nvram" ] && [ "$(wc -c <"$nvram")" -ne "$size" ]; then
  echo "$0: $nvram is not for $code: starting without its boot entries" >&2
  nvram="${{nvram%.fd}}-$((size)).fd"
fi
if ! [ -e "$nvram" ]; then
  cp -- "$vars" "$nvram"
  chmod u+w -- "$nvram"
fi
nvram=$(printf %s "$nvram" | sed 's/,/,,/g')

"#,
        file = quote(&nvram::file_name(name)),
    )
}
