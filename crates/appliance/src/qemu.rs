//! QEMU as a child process: found, checked, started, watched, ended.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use types::CancelToken;

use crate::{Accel, ApplianceImage, Error, Result, sys};

/// The program; `$V2V_QEMU` names another.
const PROGRAM: &str = "qemu-system-x86_64";
/// Oldest version that has what is used here: the PVH ELF loader with an initramfs on q35, `-blockdev` NBD discard.
const OLDEST: (u32, u32) = (6, 2);
/// Serial console of the appliance, in the scratch folder.
const CONSOLE: &str = "appliance.log";
/// stderr of QEMU, in the scratch folder.
const STDERR: &str = "qemu.log";
/// Socket on which the host waits for the appliance's virtio-serial port, in the scratch folder.
pub(crate) const PORT_SOCKET: &str = "appliance.sock";
/// Name of the port inside.
const PORT_NAME: &str = "org.v2v.appliance.0";

/// What one start of QEMU needs to know.
#[derive(Debug)]
pub(crate) struct Config<'a> {
    pub(crate) image: &'a ApplianceImage,
    pub(crate) accel: Accel,
    pub(crate) memsize_mib: u64,
    pub(crate) smp: u32,
    pub(crate) scratch: &'a Path,
    pub(crate) nbd_socket: &'a Path,
    pub(crate) exports: &'a [String],
    pub(crate) sector_sizes: &'a [u32],
    pub(crate) payload: Option<&'a str>,
}

/// The program, found and new enough.
pub(crate) fn find() -> Result<PathBuf> {
    let program = std::env::var_os("V2V_QEMU").unwrap_or_else(|| OsString::from(PROGRAM));
    let output = Command::new(&program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    let name = program.to_string_lossy().into_owned();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::QemuMissing { program: name });
        }
        Err(error) => return Err(Error::io(format!("starting {name}"), error)),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match version(&text) {
        Some(found) if found >= OLDEST => Ok(program.into()),
        found => Err(Error::QemuTooOld {
            program: name,
            found: found.map_or_else(
                || "unknown".to_owned(),
                |(major, minor)| format!("{major}.{minor}"),
            ),
            needed: format!("{}.{}", OLDEST.0, OLDEST.1),
        }),
    }
}

/// `QEMU emulator version 10.0.2 (Debian …)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split("version ").nth(1)?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The command line. Paths in the scratch folder are relative, because a unix socket's path holds 107 bytes only.
pub(crate) fn arguments(config: &Config<'_>) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut push = |words: &[&dyn AsRef<OsStr>]| {
        args.extend(words.iter().map(|word| word.as_ref().to_owned()))
    };
    let accel = match config.accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg,thread=multi",
    };
    let cpu = match config.accel {
        Accel::Kvm => "host",
        Accel::Tcg => "max",
    };
    push(&[
        &"-name",
        &"v2v-appliance",
        &"-no-user-config",
        &"-nodefaults",
        &"-display",
        &"none",
        &"-no-reboot",
    ]);
    push(&[
        &"-machine",
        &"q35,usb=off,vmport=off,smbus=off,sata=off,hpet=off",
        &"-accel",
        &accel,
        &"-cpu",
        &cpu,
    ]);
    // What a hostile file system could make of QEMU has no use for fork, exec or other privileges.
    push(&[
        &"-sandbox",
        &"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]);
    push(&[
        &"-m",
        &config.memsize_mib.to_string(),
        &"-smp",
        &config.smp.to_string(),
    ]);
    push(&[
        &"-kernel",
        &config.image.kernel,
        &"-initrd",
        &config.image.initramfs,
        &"-append",
        &KERNEL_ARGS,
    ]);
    push(&[&"-serial", &format!("file:{CONSOLE}")]);
    push(&[&"-chardev", &format!("socket,id=port,path={PORT_SOCKET}")]);
    push(&[
        &"-device",
        &"virtio-serial-pci",
        &"-device",
        &format!("virtserialport,chardev=port,name={PORT_NAME}"),
    ]);
    push(&[
        &"-object",
        &"rng-random,id=rng,filename=/dev/urandom",
        &"-device",
        &"virtio-rng-pci,rng=rng",
    ]);
    let socket = socket(config);
    for (index, export) in config.exports.iter().enumerate() {
        push(&[
            &"-blockdev",
            &format!(
                "nbd,node-name=disk{index},server.type=unix,server.path={socket},export={export},discard=unmap"
            ),
        ]);
        let sectors = match config.sector_sizes.get(index) {
            None | Some(512) => String::new(),
            Some(size) => format!(",logical_block_size={size},physical_block_size={size}"),
        };
        push(&[
            &"-device",
            &format!(
                "virtio-blk-pci,drive=disk{index},serial=disk{index},discard=on,write-zeroes=on,\
                 multifunction=on,addr={}{sectors}",
                address(index)
            ),
        ]);
    }
    args.extend(payload(config));
    args
}

/// The NBD server's socket, as a value of QEMU's: from the scratch folder, where QEMU runs.
fn socket(config: &Config<'_>) -> String {
    let socket = config
        .nbd_socket
        .strip_prefix(config.scratch)
        .unwrap_or(config.nbd_socket);
    // A comma in a value is written twice; the socket's folder may hold one.
    socket.to_string_lossy().replace(',', ",,")
}

/// The disk with files for the guest, behind the guest's own.
fn payload(config: &Config<'_>) -> Vec<OsString> {
    let Some(payload) = config.payload else {
        return Vec::new();
    };
    let socket = socket(config);
    let blockdev = format!(
        "nbd,node-name=payload,server.type=unix,server.path={socket},export={payload},read-only=on"
    );
    let device = format!(
        "virtio-blk-pci,drive=payload,serial={PAYLOAD_SERIAL},multifunction=on,addr={}",
        address(config.exports.len())
    );
    ["-blockdev", &blockdev, "-device", &device]
        .map(OsString::from)
        .to_vec()
}

/// By which applianced knows the disk that holds the payload.
const PAYLOAD_SERIAL: &str = "v2v-payload";

/// Place of a disk on the PCI bus, `SLOT.FUNCTION`: eight disks in a slot make room for 216 of them.
fn address(index: usize) -> String {
    format!("{:#x}.{}", FIRST_DISK_SLOT + index / 8, index % 8)
}

/// The slots before it are for the devices without an address of their own.
const FIRST_DISK_SLOT: usize = 4;

const KERNEL_ARGS: &str = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off nokaslr \
                           random.trust_cpu=on no_timer_check cryptomgr.notests audit=0 selinux=0 apparmor=0";

/// A running QEMU. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Qemu {
    status: Arc<Mutex<Option<String>>>,
    kill: CancelToken,
    keeper: Option<JoinHandle<()>>,
    scratch: PathBuf,
}

impl Qemu {
    /// Starts it in a thread of its own that lives as long as the child: the child is killed when that thread ends,
    /// and the thread ends with the process.
    pub(crate) fn start(program: &Path, config: &Config<'_>) -> Result<Self> {
        let log = config.scratch.join(STDERR);
        let stderr =
            File::create(&log).map_err(|e| Error::io(format!("creating {}", log.display()), e))?;
        let mut command = Command::new(program);
        command.args(arguments(config)).current_dir(config.scratch);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        sys::die_with_parent(&mut command);
        tracing::debug!("{command:?}");
        let (started, start) = mpsc::channel();
        let status = Arc::new(Mutex::new(None));
        let kill = CancelToken::new();
        let keeper = thread::Builder::new()
            .name("qemu".into())
            .spawn({
                let (status, kill) = (Arc::clone(&status), kill.clone());
                move || keep(&mut command, &started, &status, &kill)
            })
            .map_err(|e| Error::io("starting a thread", e))?;
        let result = start
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        result.map_err(|e| Error::io(format!("starting {}", program.display()), e))?;
        Ok(Self {
            status,
            kill,
            keeper: Some(keeper),
            scratch: config.scratch.to_owned(),
        })
    }

    /// How it ended, if it did.
    pub(crate) fn status(&self) -> Option<String> {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The line of its logs that says most about why it ended or hangs.
    pub(crate) fn last_words(&self) -> String {
        let read = |name| {
            fs::read(self.scratch.join(name)).map(|log| String::from_utf8_lossy(&log).into_owned())
        };
        telling_line(
            &read(STDERR).unwrap_or_default(),
            &read(CONSOLE).unwrap_or_default(),
        )
    }

    /// Waits until it has ended by itself, and kills it when it takes longer than `patience`.
    pub(crate) fn wait(mut self, patience: Duration) {
        let step = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        while self.status().is_none() && waited < patience {
            thread::sleep(step);
            waited += step;
        }
        self.end();
    }

    fn end(&mut self) {
        self.kill.cancel();
        if let Some(keeper) = self.keeper.take() {
            // The keeper cannot panic on anything but a bug; ending is all that matters here.
            let _ = keeper.join();
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.end();
    }
}

fn keep(
    command: &mut Command,
    started: &mpsc::Sender<io::Result<()>>,
    status: &Mutex<Option<String>>,
    kill: &CancelToken,
) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    let ended = watch(&mut child, kill);
    *status.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
}

fn watch(child: &mut Child, kill: &CancelToken) -> String {
    loop {
        if kill.is_cancelled() {
            let _ = child.kill();
        }
        match child.try_wait() {
            Ok(Some(status)) => return status.to_string(),
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            Err(error) => return error.to_string(),
        }
    }
}

/// QEMU's own complaint first; else the kernel's or applianced's last line, panics preferred.
fn telling_line(stderr: &str, console: &str) -> String {
    let lines = |text: &str| -> Vec<String> {
        let clean = text.lines().map(|line| {
            line.trim_matches(|c: char| c.is_whitespace() || c.is_control())
                .to_owned()
        });
        clean.filter(|line| !line.is_empty()).collect()
    };
    let (stderr, console) = (lines(stderr), lines(console));
    let complaint = stderr.iter().rev().find(|line| !line.contains("warning:"));
    let panic = || {
        console
            .iter()
            .find(|line| line.contains("Kernel panic") || line.contains("applianced: error"))
    };
    complaint
        .or_else(panic)
        .or(console.last())
        .cloned()
        .unwrap_or_else(|| "it left no log".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_debian_and_of_a_plain_build_are_understood() {
        assert_eq!(
            version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"),
            Some((10, 0))
        );
        assert_eq!(version("QEMU emulator version 7.2.0\n"), Some((7, 2)));
        assert_eq!(version("nonsense"), None);
    }

    #[test]
    fn the_telling_line_is_qemus_complaint_or_the_panic() {
        assert_eq!(
            telling_line("qemu: warning: x\nqemu: no such device\n", "hello\n"),
            "qemu: no such device"
        );
        assert_eq!(
            telling_line("", "a\n[1.0] Kernel panic - not syncing: x\nb\n"),
            "[1.0] Kernel panic - not syncing: x"
        );
        assert_eq!(telling_line("", "a\r\n\r\n"), "a");
        assert_eq!(telling_line("", ""), "it left no log");
    }

    #[test]
    fn arguments_name_sockets_from_the_scratch_folder_and_sector_sizes() {
        let image = ApplianceImage {
            kernel: "/k".into(),
            initramfs: "/i".into(),
        };
        let config = Config {
            image: &image,
            accel: Accel::Tcg,
            memsize_mib: 512,
            smp: 1,
            scratch: Path::new("/very/long/scratch"),
            nbd_socket: Path::new("/very/long/scratch/nbd.sock"),
            exports: &["disk0".to_owned()],
            sector_sizes: &[4096],
            payload: Some("payload"),
        };
        let args: Vec<_> = arguments(&config)
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect();
        assert!(
            args.iter()
                .any(|arg| arg.contains("server.path=nbd.sock,export=disk0")),
            "{args:?}"
        );
        assert!(
            args.iter()
                .any(|arg| arg.ends_with(",logical_block_size=4096,physical_block_size=4096")),
            "{args:?}"
        );
        assert!(
            args.iter()
                .any(|arg| arg.contains("server.path=nbd.sock,export=payload,read-only=on")),
            "{args:?}"
        );
        assert!(
            args.iter()
                .any(|arg| arg.contains("serial=v2v-payload") && arg.ends_with("addr=0x4.1")),
            "{args:?}"
        );
        assert!(
            args.iter().all(|arg| !arg.contains("/very/long")),
            "{args:?}"
        );
    }

    #[test]
    fn a_qemu_that_ends_is_noticed_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let fake = dir.path().join("fake-qemu");
        fs::write(
            &fake,
            "#!/bin/sh\necho 'qemu: could not do it' >&2\nexit 3\n",
        )
        .unwrap();
        fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let image = ApplianceImage {
            kernel: "/k".into(),
            initramfs: "/i".into(),
        };
        let config = Config {
            image: &image,
            accel: Accel::Tcg,
            memsize_mib: 512,
            smp: 1,
            scratch: dir.path(),
            nbd_socket: Path::new("/x"),
            exports: &[],
            sector_sizes: &[],
            payload: None,
        };
        let qemu = Qemu::start(&fake, &config).unwrap();
        while qemu.status().is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(qemu.status().unwrap(), "exit status: 3");
        assert_eq!(qemu.last_words(), "qemu: could not do it");
    }
}
