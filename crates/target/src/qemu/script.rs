//! The start script: POSIX shell, for any host that has QEMU. It describes the machine of the domain XML, finds
//! its disks beside itself and the UEFI firmware where the distributions put it, and hands its own arguments on.
//!
//! Left out, because they need a service beside QEMU: the TPM (swtpm), the guest agent's socket, sound.

use std::fmt::Write;

use image::Preallocation;
use types::{BlockBus, Firmware, MachineType, NetBus};

use crate::domain::devices::{format_name, plain_serial};
use crate::domain::platform::{Drives, Platform, SATA_PORTS, Slot};
use crate::domain::{DomainSpec, topology};
use crate::{DomainType, Result};

/// A script as text.
#[derive(Debug)]
pub(crate) struct BuiltScript {
    pub(crate) text: String,
    pub(crate) notes: Vec<String>,
}

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

/// Writes the script; `files` are the names of the disks beside it.
pub(crate) fn build(spec: &DomainSpec<'_>, files: &[String]) -> Result<BuiltScript> {
    let mut notes = Vec::new();
    let platform = Platform::of(spec, &mut notes)?;
    let drives = Drives::assign(platform, spec.machine, spec.caps, &mut notes);
    if spec.machine.tpm {
        notes.push("the machine had a TPM: the script starts the guest without one".to_owned());
    }
    let mut args = Args::default();
    machine(spec, platform, &mut args);
    disks(spec, platform, &drives, files, &mut args);
    others(spec, platform, &mut args);
    let mut text = head(spec, platform);
    if platform.firmware == Firmware::Uefi {
        text.push_str(&find_firmware(spec.name, platform));
    }
    text.push_str("set -- \\\n");
    for (option, value) in &args.0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {option}{}{value} \\", if value.is_empty() { "" } else { " " });
    }
    text.push_str("  $display \"$@\"\n\nexec \"$qemu\" \"$@\"\n");
    Ok(BuiltScript { text, notes })
}

/// Options with their values as shell words.
#[derive(Debug, Default)]
struct Args(Vec<(&'static str, String)>);

impl Args {
    /// An option whose value is plain text.
    fn plain(&mut self, option: &'static str, value: &str) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_=,.:/".contains(&b);
        let word = if value.bytes().all(plain) { value.to_owned() } else { quote(value) };
        self.0.push((option, word));
    }

    /// An option whose value is a shell word already.
    fn word(&mut self, option: &'static str, word: String) {
        self.0.push((option, word));
    }
}

/// One shell word, whatever the text holds.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A comma ends a value in QEMU's options; two stand for one.
fn commas(text: &str) -> String {
    text.replace(',', ",,")
}

fn head(spec: &DomainSpec<'_>, platform: Platform) -> String {
    let accel = match spec.domain_type {
        DomainType::Kvm => "kvm:tcg",
        DomainType::Qemu => "tcg",
    };
    format!(
        r#"#!/bin/sh
# Starts the guest {name} in QEMU. Arguments of this script are handed on to QEMU.
#   V2V_QEMU   the emulator, if it is not qemu-system-{arch} in the search path
#   V2V_ACCEL  accelerators, best first, if not {accel}
# The network is QEMU's user-mode network: the guest reaches out, nothing reaches in.
set -eu
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
here=$(printf %s "$here" | sed 's/,/,,/g')
qemu=${{V2V_QEMU:-qemu-system-{arch}}}
accel=${{V2V_ACCEL:-{accel}}}
if ! command -v "$qemu" >/dev/null; then
  echo "$0: $qemu is not installed: install the package {package} (Debian) or qemu-kvm (Fedora)" >&2
  exit 1
fi
# Without a desktop the guest has its serial console only, on this terminal.
display=
if [ -z "${{DISPLAY:-}}${{WAYLAND_DISPLAY:-}}" ]; then
  display='-display none'
fi

"#,
        name = spec.name,
        arch = platform.arch,
        package = if platform.arch == "aarch64" { "qemu-system-arm" } else { "qemu-system-x86" },
    )
}

fn find_firmware(name: &str, platform: Platform) -> String {
    let (list, package) = match (platform.arch, platform.secure_boot) {
        ("aarch64", _) => (AAVMF, "qemu-efi-aarch64 (Debian) or edk2-aarch64 (Fedora)"),
        (_, true) => (OVMF_SECURE, "ovmf (Debian) or edk2-ovmf (Fedora)"),
        (_, false) => (OVMF, "ovmf (Debian) or edk2-ovmf (Fedora)"),
    };
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
# The guest's own copy of the firmware's variables.
nvram="$(cd -- "$(dirname -- "$0")" && pwd -P)"/{file}
if ! [ -e "$nvram" ]; then
  cp -- "$vars" "$nvram"
  chmod u+w -- "$nvram"
fi
nvram=$(printf %s "$nvram" | sed 's/,/,,/g')

"#,
        file = quote(&format!("{name}_VARS.fd")),
    )
}

fn machine(spec: &DomainSpec<'_>, platform: Platform, args: &mut Args) {
    args.plain("-nodefaults", "");
    args.plain("-name", &format!("guest={}", commas(spec.name)));
    let chipset = match platform.machine {
        MachineType::I440fx => "pc",
        MachineType::Q35 => "q35",
        MachineType::Virt => "virt",
    };
    let smm = if platform.secure_boot { ",smm=on" } else { "" };
    args.word("-machine", format!("\"{chipset}{smm},accel=$accel\""));
    // `max` is the host's processor under KVM and everything that TCG can do without it.
    let cpu = if spec.domain_type == DomainType::Qemu && platform.arch == "x86_64" { "max,la57=off" } else { "max" };
    args.plain("-cpu", cpu);
    args.plain("-m", &format!("size={}k", spec.machine.memory_bytes.div_ceil(1024)));
    let smp = topology(spec.machine, platform)
        .map(|[s, c, t]| format!(",sockets={s},cores={c},threads={t}"))
        .unwrap_or_default();
    args.plain("-smp", &format!("cpus={}{smp}", spec.machine.vcpus.max(1)));
    args.plain("-rtc", if spec.caps.rtc_utc { "base=utc" } else { "base=localtime" });
    if let Some(uuid) = spec.machine.uuid.as_deref().filter(|_| spec.keep_uuid) {
        args.plain("-uuid", uuid);
    }
    if platform.firmware == Firmware::Uefi {
        if platform.secure_boot {
            // OVMF keeps its variables from the guest only if flash can be written from SMM alone, and its S3
            // boot script would undermine that: OvmfPkg/README, section "SMM support".
            args.plain("-global", "driver=cfi.pflash01,property=secure,value=on");
            args.plain("-global", "ICH9-LPC.disable_s3=1");
        }
        args.word("-drive", "\"if=pflash,unit=0,format=raw,readonly=on,file=$code\"".to_owned());
        args.word("-drive", "\"if=pflash,unit=1,format=raw,file=$nvram\"".to_owned());
    }
}

fn disks(spec: &DomainSpec<'_>, platform: Platform, drives: &Drives, files: &[String], args: &mut Args) {
    let all = || drives.disks.iter().chain(&drives.cdroms);
    if all().any(|slot| slot.bus == BlockBus::VirtioScsi) {
        args.plain("-device", "virtio-scsi-pci,id=scsi0");
    }
    // q35 has one AHCI controller on board, whose ports are the buses ide.0 to ide.5.
    let on_board = u32::from(platform.machine == MachineType::Q35);
    let sata = all().filter(|slot| slot.bus == BlockBus::Sata).map(|slot| slot.unit / SATA_PORTS + 1).max();
    for controller in on_board..sata.unwrap_or(0) {
        args.plain("-device", &format!("ich9-ahci,id=ahci{controller}"));
    }
    let discard = match spec.preallocation {
        Preallocation::Sparse => ",discard=unmap",
        Preallocation::Falloc => "",
    };
    for (index, (slot, file)) in drives.disks.iter().zip(files).enumerate() {
        let format = format_name(spec.format);
        let file = quote(&commas(file));
        args.word("-drive", format!("\"if=none,id=disk{index},format={format}{discard},file=$here\"/{file}"));
        let serial = spec.machine.disks.get(index).and_then(|disk| disk.serial.as_deref());
        let serial = serial.filter(|s| plain_serial(s)).map(|s| format!(",serial={s}")).unwrap_or_default();
        let order = slot.boot_order.map(|order| format!(",bootindex={order}")).unwrap_or_default();
        args.plain("-device", &format!("{},drive=disk{index}{serial}{order}", drive(slot, platform, "hd")));
    }
    for slot in &drives.cdroms {
        args.plain("-device", &drive(slot, platform, "cd"));
    }
    if drives.floppies > 0 {
        args.plain("-device", "floppy,drive-type=144");
    }
}

/// The device of a drive with its place; `kind` is `hd` or `cd`.
fn drive(slot: &Slot, platform: Platform, kind: &str) -> String {
    match slot.bus {
        BlockBus::VirtioBlk => "virtio-blk-pci".to_owned(),
        BlockBus::VirtioScsi => format!("scsi-{kind},bus=scsi0.0,scsi-id={}", slot.unit),
        BlockBus::Ide => format!("ide-{kind},bus=ide.{},unit={}", slot.unit / 2, slot.unit % 2),
        BlockBus::Sata => {
            let (controller, port) = (slot.unit / SATA_PORTS, slot.unit % SATA_PORTS);
            if controller == 0 && platform.machine == MachineType::Q35 {
                format!("ide-{kind},bus=ide.{port}")
            } else {
                format!("ide-{kind},bus=ahci{controller}.{port}")
            }
        }
    }
}

fn others(spec: &DomainSpec<'_>, platform: Platform, args: &mut Args) {
    let model = match spec.caps.net_bus {
        NetBus::Virtio => "virtio-net-pci",
        NetBus::E1000e => "e1000e",
        NetBus::E1000 => "e1000",
        NetBus::Rtl8139 => "rtl8139",
    };
    for (index, nic) in spec.machine.nics.iter().enumerate() {
        args.plain("-netdev", &format!("user,id=net{index}"));
        let mac = nic.mac.map(|mac| format!(",mac={mac}")).unwrap_or_default();
        args.plain("-device", &format!("{model},netdev=net{index}{mac}"));
    }
    if platform.machine == MachineType::Virt {
        args.plain("-device", "virtio-gpu-pci");
        args.plain("-device", "qemu-xhci");
        args.plain("-device", "usb-kbd");
    } else {
        args.plain("-device", "VGA");
        args.plain("-usb", "");
    }
    args.plain("-device", "usb-tablet");
    if spec.caps.virtio_rng {
        args.plain("-object", "rng-random,id=rng0,filename=/dev/urandom");
        args.plain("-device", "virtio-rng-pci,rng=rng0");
    }
    if spec.caps.virtio_balloon {
        args.plain("-device", "virtio-balloon-pci");
    }
    if spec.caps.pvpanic && platform.arch == "x86_64" {
        args.plain("-device", "pvpanic");
    }
    args.plain("-serial", "mon:stdio");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::samples;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    fn script(sample: &samples::Sample) -> String {
        let files: Vec<String> = (0u32..)
            .map(|index| format!("{}-sd{}", sample.name, types::disk_letters(index)))
            .take(sample.machine.disks.len())
            .collect();
        build(&sample.spec(), &files).unwrap().text
    }

    /// Runs a script with an emulator that prints its arguments, one a line.
    fn argv(dir: &Path, name: &str, text: &str) -> Vec<String> {
        let fake = dir.join("fake-qemu");
        fs::write(&fake, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.join(format!("{name}.sh"));
        fs::write(&path, text).unwrap();
        let output = Command::new("sh").arg(&path).args(["-snapshot", "a b"]).env("V2V_QEMU", fake).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn scripts_match_their_golden_files() {
        for (name, sample) in samples::all() {
            insta::assert_snapshot!(format!("script-{name}"), script(&sample));
        }
    }

    #[test]
    fn a_hostile_name_reaches_qemu_as_one_word_and_runs_nothing() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("a,b $(touch pwned) 'c");
        fs::create_dir(&dir).unwrap();
        let mut sample = samples::bios();
        sample.name = "x,y'; touch pwned; $(touch pwned) `touch pwned` \"z".into();
        let args = argv(&dir, "run", &script(&sample));
        let twice = |text: &str| text.replace(',', ",,");
        assert!(args.contains(&format!("guest={}", twice(&sample.name))), "{args:#?}");
        let file = format!("{}/{}-sda", fs::canonicalize(&dir).unwrap().display(), sample.name);
        let drive = format!("if=none,id=disk0,format=qcow2,discard=unmap,file={}", twice(&file));
        assert!(args.contains(&drive), "{drive}\n{args:#?}");
        assert_eq!(args[args.len() - 2..], ["-snapshot", "a b"]);
        assert!(!dir.join("pwned").exists() && !Path::new("pwned").exists());
    }

    #[test]
    fn the_firmwares_variables_are_copied_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut sample = samples::uefi();
        sample.name = "it's".into();
        if !Path::new("/usr/share/OVMF/OVMF_CODE_4M.ms.fd").exists() {
            assert!(std::env::var_os("CI").is_none(), "OVMF is absent: install ovmf");
            eprintln!("SKIP: OVMF is absent: install ovmf");
            return;
        }
        let args = argv(dir.path(), "run", &script(&sample));
        let vars = dir.path().join("it's_VARS.fd");
        assert!(args.iter().any(|arg| arg.ends_with("file=/usr/share/OVMF/OVMF_CODE_4M.ms.fd")), "{args:#?}");
        assert!(args.iter().any(|arg| arg.ends_with(vars.to_str().unwrap())), "{args:#?}");
        fs::write(&vars, "kept").unwrap();
        argv(dir.path(), "run", &script(&sample));
        assert_eq!(fs::read_to_string(&vars).unwrap(), "kept");
    }

    #[test]
    fn an_absent_emulator_is_named_with_its_package() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sh");
        fs::write(&path, script(&samples::bios())).unwrap();
        let output = Command::new("sh").arg(&path).env("V2V_QEMU", "qemu-absent").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("install the package qemu-system-x86"));
    }

    #[test]
    fn qemu_accepts_every_script() {
        if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "QEMU is absent: install qemu-system-x86");
            eprintln!("SKIP: QEMU is absent: install qemu-system-x86");
            return;
        }
        for (name, mut sample) in samples::all() {
            let dir = tempfile::tempdir().unwrap();
            for index in 0..u32::try_from(sample.machine.disks.len()).unwrap() {
                let disk = dir.path().join(format!("{}-sd{}", sample.name, types::disk_letters(index)));
                fs::File::create(disk).unwrap().set_len(1 << 20).unwrap();
            }
            sample.machine.memory_bytes = 64 << 20;
            let path = dir.path().join("run.sh");
            // Raw disks, so that empty files will do; `-S` stops before the first instruction, and the monitor
            // on stdin is told to quit.
            let text = script(&sample).replace("format=qcow2", "format=raw");
            fs::write(&path, text).unwrap();
            let quit = fs::File::create_new(dir.path().join("quit")).unwrap();
            drop(quit);
            fs::write(dir.path().join("quit"), "\u{1}cquit\n").unwrap();
            let output = Command::new("timeout")
                .args(["60", "sh"])
                .arg(&path)
                .args(["-S"])
                .env("V2V_ACCEL", "tcg")
                .env_remove("DISPLAY")
                .env_remove("WAYLAND_DISPLAY")
                .stdin(fs::File::open(dir.path().join("quit")).unwrap())
                .output()
                .unwrap();
            assert!(output.status.success(), "{name}: {:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
    }
}
