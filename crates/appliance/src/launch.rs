//! Starts the appliance and asks it things.

use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use types::{CancelToken, ConvertOptions, ConvertOutcome, GuestInfo, StorageMap};

use crate::accel::{self, Choice};
use crate::client::{Client, Key, Watch};
use crate::qemu::{self, Config, PORT_SOCKET, Qemu};
use crate::{Accel, ApplianceImage, Error, Result};

/// How long KVM may take to show a sign of life; it needs less than a second where it works.
const KVM_HELLO: Duration = Duration::from_secs(6);
/// How long KVM that is known to work may take on a loaded machine.
const KVM_AGAIN: Duration = Duration::from_secs(60);
/// How long TCG may take on a loaded machine; 3 s on an idle one.
const TCG_HELLO: Duration = Duration::from_secs(180);
/// How long the appliance may be silent at work: an fsck of a large file system says nothing for long.
const SILENCE: Duration = Duration::from_secs(1800);
/// How long it may take to power off.
const POWER_OFF: Duration = Duration::from_secs(10);
/// What it needs for itself, in MiB.
const BASE_MEMORY_MIB: u64 = 768;
/// One more MiB for so many bytes of disk: e2fsck and xfs_repair keep bitmaps and tables of the whole file system.
const DISK_BYTES_PER_MIB: u64 = 4 << 30;
/// cryptsetup's default bound for Argon2id, and some room.
const KEY_DERIVATION_MIB: u64 = 1024 + 256;
/// More than that only by `--memsize`.
const MOST_MEMORY_MIB: u64 = 4096;

/// How to launch.
#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// What it runs under, see [`settle_accel`].
    pub accel: Accel,
    /// Memory in MiB (`--memsize`); by the size of the disks when not given.
    pub memsize_mib: Option<u64>,
    /// Virtual CPUs (`--smp`); one when not given, two with KVM.
    pub smp: Option<u32>,
    /// Capacity of all disks together, in bytes.
    pub total_disk_bytes: u64,
    /// There are keys of encrypted volumes: the function that derives a key from a passphrase (Argon2id in LUKS 2)
    /// takes up to 1 GiB by design.
    pub encrypted: bool,
    /// Folder for sockets and logs.
    pub scratch_dir: PathBuf,
    /// The NBD server's unix socket.
    pub nbd_socket: PathBuf,
    /// Exports on it, in the machine's order of disks.
    pub exports: Vec<String>,
    /// Logical sector size of each, in bytes; 512 where none is said. A partition table counts in them.
    pub sector_sizes: Vec<u32>,
    /// The export that is an archive with files for the guest: one more disk, read-only.
    pub payload: Option<String>,
}

impl LaunchOptions {
    /// Defaults for these disks.
    pub fn new(
        accel: Accel,
        scratch_dir: PathBuf,
        nbd_socket: PathBuf,
        exports: Vec<String>,
    ) -> Self {
        Self {
            accel,
            memsize_mib: None,
            smp: None,
            total_disk_bytes: 0,
            encrypted: false,
            scratch_dir,
            nbd_socket,
            exports,
            sector_sizes: Vec::new(),
            payload: None,
        }
    }

    fn memory_mib(&self) -> u64 {
        let wanted = BASE_MEMORY_MIB + self.total_disk_bytes / DISK_BYTES_PER_MIB;
        let key_derivation = if self.encrypted {
            KEY_DERIVATION_MIB
        } else {
            0
        };
        self.memsize_mib
            .unwrap_or(wanted.min(MOST_MEMORY_MIB) + key_derivation)
    }
}

/// A running appliance. Dropping it ends it.
#[derive(Debug)]
pub struct Appliance {
    // Before `qemu`: the connection is closed first.
    client: Client,
    qemu: Qemu,
    cancel: CancelToken,
    accel: Accel,
    hello_ms: u64,
}

impl Appliance {
    /// Starts it and waits for its hello.
    pub fn launch(
        image: &ApplianceImage,
        options: &LaunchOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let patience = match options.accel {
            // It has said hello before, or somebody insists: then it is slow, not broken.
            Accel::Kvm => KVM_AGAIN,
            Accel::Tcg => TCG_HELLO,
        };
        Self::start(image, options, patience, cancel)
    }

    fn start(
        image: &ApplianceImage,
        options: &LaunchOptions,
        patience: Duration,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let program = qemu::find()?;
        let begun = Instant::now();
        let socket = options.scratch_dir.join(PORT_SOCKET);
        // Left by a try with KVM.
        let _ = std::fs::remove_file(&socket);
        let listener = listen(&options.scratch_dir)?;
        let config = Config {
            image,
            accel: options.accel,
            memsize_mib: options.memory_mib(),
            smp: options
                .smp
                .unwrap_or(if options.accel == Accel::Kvm { 2 } else { 1 }),
            scratch: &options.scratch_dir,
            nbd_socket: &options.nbd_socket,
            exports: &options.exports,
            sector_sizes: &options.sector_sizes,
            payload: options.payload.as_deref(),
        };
        let qemu = Qemu::start(&program, &config)?;
        let watch = Watch {
            qemu: &qemu,
            cancel,
            silence: patience,
        };
        let mut client = Client::accept(listener, &watch)?;
        client.hello(&watch)?;
        let hello_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Self {
            client,
            qemu,
            cancel: cancel.clone(),
            accel: options.accel,
            hello_ms,
        })
    }

    /// Milliseconds from starting QEMU to the hello.
    pub fn hello_ms(&self) -> u64 {
        self.hello_ms
    }

    /// What it runs under.
    pub fn accel(&self) -> Accel {
        self.accel
    }

    /// Assembles the storage of `disks` disks and describes every operating system on it.
    pub fn inspect(
        &mut self,
        disks: usize,
        keys: &[Key],
        log: &dyn Fn(&str),
    ) -> Result<(StorageMap, Vec<GuestInfo>)> {
        self.client.inspect(
            disks,
            keys,
            log,
            &Watch {
                qemu: &self.qemu,
                cancel: &self.cancel,
                silence: SILENCE,
            },
        )
    }

    /// Converts the guest whose root is `root`.
    pub fn convert(
        &mut self,
        root: &str,
        options: &ConvertOptions,
        step: &dyn Fn(&str),
        log: &dyn Fn(&str),
    ) -> Result<ConvertOutcome> {
        let watch = Watch {
            qemu: &self.qemu,
            cancel: &self.cancel,
            silence: SILENCE,
        };
        self.client.convert(root, options, step, log, &watch)
    }

    /// Discards what the guest's file systems do not use (unless `fstrim` is false) but for mount points in `skip`,
    /// and flushes the disks. Returns the bytes discarded.
    pub fn trim(
        &mut self,
        root: &str,
        fstrim: bool,
        skip: &[String],
        log: &dyn Fn(&str),
    ) -> Result<u64> {
        let watch = Watch {
            qemu: &self.qemu,
            cancel: &self.cancel,
            silence: SILENCE,
        };
        self.client.trim(root, fstrim, skip, log, &watch)
    }

    /// Flushes, deactivates the storage, powers off.
    pub fn shutdown(mut self) -> Result<()> {
        let watch = Watch {
            qemu: &self.qemu,
            cancel: &self.cancel,
            silence: Duration::from_secs(60),
        };
        self.client.shutdown(&watch)?;
        drop(self.client);
        self.qemu.wait(POWER_OFF);
        Ok(())
    }
}

/// KVM where it works, else TCG: as `$V2V_ACCEL` says, as is remembered from this boot of the host, or as an
/// appliance without disks finds out now. `log` is told when /dev/kvm is there and does not work.
pub fn settle_accel(
    image: &ApplianceImage,
    cancel: &CancelToken,
    log: &dyn Fn(&str),
) -> Result<Accel> {
    if let Choice::Settled(accel) = accel::choose()? {
        return Ok(accel);
    }
    let Some((state, _)) = accel::place() else {
        return Ok(Accel::Tcg);
    };
    let scratch = state.join(format!("probe-{}", std::process::id()));
    let made = std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&scratch);
    made.map_err(|e| Error::io(format!("creating {}", scratch.display()), e))?;
    let options = LaunchOptions::new(Accel::Kvm, scratch.clone(), PathBuf::new(), vec![]);
    let tried = Appliance::start(image, &options, KVM_HELLO, cancel).and_then(Appliance::shutdown);
    // It holds a socket and two logs; the folder is removed with the state of this boot at the latest.
    let _ = std::fs::remove_dir_all(&scratch);
    let accel = match tried {
        Ok(()) => Accel::Kvm,
        Err(error @ (Error::Cancelled | Error::QemuMissing { .. } | Error::QemuTooOld { .. })) => {
            return Err(error);
        }
        Err(error) => {
            log(&format!(
                "/dev/kvm is there but does not work ({error}); using TCG until the host boots again"
            ));
            Accel::Tcg
        }
    };
    accel::remember(accel);
    Ok(accel)
}

/// Listens on the port's socket, through /proc/self/fd so that a long scratch path does not matter.
fn listen(scratch: &std::path::Path) -> Result<UnixListener> {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(scratch)
        .map_err(|e| Error::io(format!("opening {}", scratch.display()), e))?;
    let path = format!("/proc/self/fd/{}/{PORT_SOCKET}", folder.as_raw_fd());
    UnixListener::bind(path)
        .map_err(|e| Error::io(format!("creating a socket in {}", scratch.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_disks_up_to_a_limit() {
        let mut options = LaunchOptions::new(Accel::Tcg, "/s".into(), "/n".into(), vec![]);
        assert_eq!(options.memory_mib(), BASE_MEMORY_MIB);
        options.total_disk_bytes = 2 << 40;
        assert_eq!(options.memory_mib(), BASE_MEMORY_MIB + 512);
        options.total_disk_bytes = 1 << 50;
        assert_eq!(options.memory_mib(), MOST_MEMORY_MIB);
        options.encrypted = true;
        assert_eq!(options.memory_mib(), MOST_MEMORY_MIB + KEY_DERIVATION_MIB);
        options.memsize_mib = Some(9000);
        assert_eq!(options.memory_mib(), 9000);
    }
}
