//! The web page with made-up jobs that move, for looking: `cargo run -p server --example web_demo [ADDR:PORT]`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use server::web::{Access, serve};
use server::{
    Approval, Control, ControlError, CreatedToken, DiskView, JobDetail, JobId, JobState, JobView,
    LogLine, NewToken, Progress, ProofRange, TokenView,
};
use tokio::sync::watch;
use types::{CancelToken, Change};
use wire::join::{JoinString, Secret};
use wire::tls::{Identity, fingerprint};

const GIB: u64 = 1 << 30;
const RATE: u64 = 97 << 20;

struct Demo {
    jobs: Mutex<Vec<(JobDetail, Vec<LogLine>)>>,
    tokens: Mutex<Vec<TokenView>>,
    identity: Identity,
    changes: watch::Sender<u64>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7480".to_owned())
        .parse()?;
    let made = rcgen::generate_simple_self_signed(["v2v".to_owned()])?;
    let identity = Identity {
        certificate: made.cert.der().clone(),
        key: rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())?,
    };
    let access = Access::new("demo-demo-demo-demo", identity.clone())?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    writeln!(std::io::stdout(), "{}", access.link(listener.local_addr()?))?;
    let demo = Arc::new(Demo {
        jobs: Mutex::new(jobs()),
        tokens: Mutex::new(vec![token(1, "rack 4, web servers", 3, 2)]),
        identity,
        changes: watch::Sender::new(0),
    });
    let moving = Arc::clone(&demo);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            moving.step();
        }
    });
    Ok(serve(listener, demo, access, CancelToken::new()).await?)
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

fn token(id: u64, note: &str, uses: u32, used: u32) -> TokenView {
    TokenView {
        id,
        note: note.to_owned(),
        created_unix_ms: now_ms(),
        expires_unix_ms: now_ms() + 86_400_000,
        uses,
        used,
        revoked: false,
        auto_approve: id.is_multiple_of(2),
    }
}

fn jobs() -> Vec<(JobDetail, Vec<LogLine>)> {
    let machines = [
        (
            "db-primary",
            JobState::Done,
            "in its place as domain db-primary",
            "Dell Inc. PowerEdge R730, 7XK1M52",
            640,
        ),
        (
            "mail <script>alert(1)</script>",
            JobState::DoneWithErrors,
            "192 KiB could not be read and are zero",
            "HP ProLiant DL380 G6, CZJ0120QF4",
            180,
        ),
        (
            "legacy-erp",
            JobState::Failed,
            "converting: no kernel with virtio drivers in /boot; install linux-image-amd64 and retry",
            "Supermicro X9DRi-LN4+, 0123456789",
            300,
        ),
        (
            "files01",
            JobState::WaitingForAgent,
            "the agent is away since 4 min",
            "Fujitsu PRIMERGY TX200 S7, YLAR004711",
            900,
        ),
        (
            "web1",
            JobState::Copying,
            "copying disk 1 of 2 (sda)",
            "Dell Inc. PowerEdge R630, 4QW8Z42",
            240,
        ),
        (
            "build-7",
            JobState::Converting,
            "installing the boot loader",
            "Lenovo ThinkSystem SR650, J30AXZ11",
            120,
        ),
        (
            "ldap2.example.org",
            JobState::WaitingForApproval,
            "waits for approval",
            "IBM System x3550 M4, KQ12ABC",
            64,
        ),
        (
            "print-queue",
            JobState::Queued,
            "2 jobs run, at most 2 may",
            "Dell Inc. OptiPlex 7010, 1ABCD23",
            32,
        ),
    ];
    (1..)
        .zip(machines)
        .map(|(id, machine)| job(id, machine))
        .collect()
}

fn job(
    id: u64,
    (name, state, text, machine, gib): (&str, JobState, &str, &str, u64),
) -> (JobDetail, Vec<LogLine>) {
    let total = gib * GIB / 4;
    let share = match state {
        JobState::Done | JobState::DoneWithErrors => 100,
        JobState::Copying => 31,
        JobState::WaitingForAgent | JobState::Failed => 57,
        JobState::Converting => 2,
        _ => 0,
    };
    let started = share > 0;
    let bad = if state == JobState::DoneWithErrors {
        vec![
            40 * GIB..40 * GIB + 65536,
            41 * GIB..41 * GIB + 4096,
            150 * GIB..150 * GIB + 126_976,
        ]
    } else {
        vec![]
    };
    let disk = |disk: &str, model: &str, part: u64, bad: Vec<std::ops::Range<u64>>| DiskView {
        name: disk.to_owned(),
        model: model.to_owned(),
        virtual_size: gib * GIB / 2 * part,
        done_bytes: if started { total * share / 200 } else { 0 },
        total_bytes: if started { total / 2 } else { 0 },
        health: if bad.is_empty() {
            "passed, 0 reallocated sectors".to_owned()
        } else {
            "FAILING: 312 reallocated, 17 pending sectors".to_owned()
        },
        bad,
    };
    let ended = state.is_ended();
    let detail = JobDetail {
        job: JobView {
            id: JobId(id),
            name: name.to_owned(),
            state,
            text: text.to_owned(),
            machine: machine.to_owned(),
            address: format!("192.0.2.{}", 20 + id),
            connected: !ended && state != JobState::WaitingForAgent,
            progress: Progress {
                done_bytes: total * share / 100,
                total_bytes: if started { total } else { 0 },
                received_bytes: total * share / 100,
                wire_bytes: total * share / 250,
                zero_bytes: total / 5 * u64::from(started),
                bad_bytes: bad.iter().map(|range| range.end - range.start).sum(),
                rate_bytes: if state == JobState::Copying { RATE } else { 0 },
                eta_seconds: if state == JobState::Copying { total * 69 / 100 / RATE } else { 0 },
                first_byte_ms: if started { 412 } else { 0 },
                same_bytes: 0,
            },
            created_unix_ms: now_ms() - 3_600_000 * (9 - id.min(8)),
            ended_unix_ms: if ended { now_ms() - 600_000 } else { 0 },
            options: ["-o", "libvirt", "-os", "default", "-of", "qcow2"].map(Into::into).into(),
        },
        disks: vec![
            disk("sda", "SEAGATE ST600MM0006, S0M2AB3C", 1, bad),
            disk("nvme0n1", "Samsung SSD 983 DCT, S48BNW0K", 1, vec![]),
        ],
        inventory: inventory(),
        nics: vec![
            ("eno1".into(), "18:66:da:f1:22:40".into(), "default".into()),
            ("eno2".into(), "18:66:da:f1:22:41".into(), "storage".into()),
        ],
        concerns: match state {
            JobState::WaitingForApproval => vec![
                "sda3 is encrypted with LUKS: give its passphrase".into(),
                "md126 is degraded: 1 of 2 members".into(),
            ],
            _ => vec![],
        },
        guest: started.then(|| "Debian GNU/Linux 12 (bookworm), x86_64, dpkg, systemd, UEFI\nroot on /dev/vg0/root (ext4), /boot on sda2, kernel 6.1.0-31-amd64".to_owned()),
        changes: if started { changes() } else { vec![] },
        placed: if matches!(state, JobState::Done | JobState::DoneWithErrors) {
            vec!["/var/lib/libvirt/images/db-primary-sda".into(), "/var/lib/libvirt/images/db-primary-sdb".into(), "domain db-primary at qemu:///system".into()]
        } else {
            vec![]
        },
        proof: if state == JobState::Done {
            (0..24).map(|n| ProofRange { disk: n % 2, offset: u64::from(n / 2) * GIB, len: GIB, covered_bytes: GIB / 3, root: "3f2a9c".repeat(11)[..64].to_owned() }).collect()
        } else {
            vec![]
        },
    };
    (detail, log())
}

fn inventory() -> Vec<(String, String)> {
    [
        ("Vendor", "Dell Inc."),
        ("Product", "PowerEdge R630"),
        ("Serial", "4QW8Z42"),
        ("UUID", "4c4c4544-0051-5710-8038-b4c04f5a3432"),
        ("Firmware", "UEFI 2.4, Secure Boot off"),
        (
            "Processor",
            "Intel Xeon E5-2640 v4, 2 sockets, 20 cores, 40 threads",
        ),
        ("Memory", "64.0 GiB"),
        ("Clock", "UTC"),
        ("TPM", "2.0"),
        ("Installed", "Debian GNU/Linux 12 on sda2"),
        ("Agent", "0.1.0 on Linux 6.1.0-31-amd64"),
    ]
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .into()
}

fn log() -> Vec<LogLine> {
    let levels = ["info", "info", "agent", "note", "warning", "info"];
    let texts = [
        "agent 0.1.0 connected",
        "job made for 18:66:da:f1:22:40",
        "sda: 465 GiB, 512-byte sectors",
        "network eno2 is connected to storage",
        "fstab: /dev/sdb1 is named by device; changed to its UUID",
        "inspecting",
    ];
    (1..=40u64)
        .zip(levels.iter().cycle().zip(texts.iter().cycle()))
        .map(|(number, (level, text))| LogLine {
            number,
            unix_ms: now_ms() - 400_000 + number * 7919,
            level: (*level).to_owned(),
            text: (*text).to_owned(),
        })
        .collect()
}

fn changes() -> Vec<Change> {
    [
        (
            "initramfs",
            "/etc/initramfs-tools/modules",
            Some("a"),
            "virtio drivers must be in the initrd",
        ),
        (
            "initramfs",
            "/boot/initrd.img-6.1.0-31-amd64",
            Some("a"),
            "made again with virtio drivers",
        ),
        (
            "fstab",
            "/etc/fstab",
            Some("a"),
            "/dev/sdb1 would be another disk on virtio; its UUID is the same",
        ),
        (
            "network",
            "/etc/systemd/network/10-v2v-eno1.link",
            None,
            "the interface keeps its name eno1 by its MAC address",
        ),
    ]
    .map(|(step, path, before, why)| Change {
        step: step.into(),
        path: path.into(),
        before: before.map(Into::into),
        after: Some("b".into()),
        why: why.into(),
    })
    .into()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Demo {
    /// What runs goes on a little.
    fn step(&self) {
        for (detail, log) in locked(&self.jobs).iter_mut() {
            let job = &mut detail.job;
            if job.state != JobState::Copying {
                continue;
            }
            let progress = &mut job.progress;
            let step = progress.total_bytes / 200;
            progress.done_bytes = (progress.done_bytes + step).min(progress.total_bytes);
            progress.received_bytes = progress.done_bytes;
            progress.eta_seconds = (progress.total_bytes - progress.done_bytes) / RATE;
            for disk in &mut detail.disks {
                disk.done_bytes = (disk.done_bytes + step / 2).min(disk.total_bytes);
            }
            let number = log.len() as u64 + 1;
            let text = format!("{} bytes are here", progress.done_bytes);
            log.push(LogLine {
                number,
                unix_ms: now_ms(),
                level: "info".into(),
                text,
            });
            if progress.done_bytes == progress.total_bytes {
                job.state = JobState::Done;
                job.text = format!("in its place as domain {}", job.name);
                job.ended_unix_ms = now_ms();
            }
        }
        self.changes.send_modify(|number| *number += 1);
    }

    fn change(
        &self,
        id: JobId,
        change: impl FnOnce(&mut JobDetail) -> Result<(), String>,
    ) -> Result<(), ControlError> {
        let result = locked(&self.jobs)
            .iter_mut()
            .find(|(detail, _)| detail.job.id == id)
            .ok_or_else(|| ControlError::NotFound(format!("job {id}")))
            .and_then(|(detail, _)| change(detail).map_err(ControlError::Refused));
        self.changes.send_modify(|number| *number += 1);
        result
    }

    fn find<T>(
        &self,
        id: JobId,
        read: impl FnOnce(&(JobDetail, Vec<LogLine>)) -> T,
    ) -> Result<T, ControlError> {
        locked(&self.jobs)
            .iter()
            .find(|(detail, _)| detail.job.id == id)
            .map(read)
            .ok_or_else(|| ControlError::NotFound(format!("job {id}")))
    }
}

impl Control for Demo {
    fn jobs(&self) -> Result<Vec<JobView>, ControlError> {
        Ok(locked(&self.jobs)
            .iter()
            .map(|(detail, _)| detail.job.clone())
            .collect())
    }

    fn job(&self, id: JobId) -> Result<JobDetail, ControlError> {
        self.find(id, |(detail, _)| detail.clone())
    }

    fn approve(&self, id: JobId, approval: Approval) -> Result<(), ControlError> {
        self.change(id, |detail| {
            if approval.options.iter().any(|word| word == "-i") {
                return Err("-i: the source of a job is its machine".to_owned());
            }
            detail.job.state = JobState::Copying;
            detail.job.text = "copying disk 1 of 2 (sda)".to_owned();
            detail.job.progress.total_bytes = 16 * GIB;
            detail.job.options.extend(approval.options);
            for disk in &mut detail.disks {
                disk.total_bytes = 8 * GIB;
            }
            Ok(())
        })
    }

    fn cancel(&self, id: JobId) -> Result<(), ControlError> {
        self.change(id, |detail| {
            detail.job.state = JobState::Cancelled;
            detail.job.text = "cancelled by an administrator".to_owned();
            Ok(())
        })
    }

    fn retry(&self, id: JobId) -> Result<(), ControlError> {
        self.change(id, |detail| {
            detail.job.state = JobState::Queued;
            detail.job.text = "waits for its turn".to_owned();
            Ok(())
        })
    }

    fn logs(&self, id: JobId, after: u64, limit: usize) -> Result<Vec<LogLine>, ControlError> {
        self.find(id, |(_, log)| {
            log.iter()
                .filter(|line| line.number > after)
                .take(limit)
                .cloned()
                .collect()
        })
    }

    fn tokens(&self) -> Result<Vec<TokenView>, ControlError> {
        Ok(locked(&self.tokens).clone())
    }

    fn create_token(&self, new: NewToken) -> Result<CreatedToken, ControlError> {
        let mut tokens = locked(&self.tokens);
        let id = tokens.len() as u64 + 1;
        tokens.push(token(id, &new.note, new.uses, 0));
        Ok(CreatedToken {
            id,
            join: JoinString {
                servers: vec![
                    "192.0.2.10:7440".to_owned(),
                    "[2001:db8::10]:7440".to_owned(),
                ],
                fingerprint: fingerprint(&self.identity.certificate),
                secret: Secret([7; 16]),
            },
            expires_unix_ms: now_ms() + new.ttl_seconds * 1000,
        })
    }

    fn revoke_token(&self, id: u64) -> Result<(), ControlError> {
        for token in locked(&self.tokens)
            .iter_mut()
            .filter(|token| token.id == id)
        {
            token.revoked = true;
        }
        Ok(())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
