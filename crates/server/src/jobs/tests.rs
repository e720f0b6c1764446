//! The whole state machine over remote disks in memory and a conversion that does as it is told.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use convert::{Conversion, Events, Gate, Outcome, Stage};
use image::BlockSource;
use source::Opened;
use target::{TargetKind, TargetOptions};
use types::Machine;
use wire::inventory::{Disk, Inventory};
use wire::join::Secret;
use wire::session::{Hello, UserAction, Wish};

use super::backend::SpoolPlan;
use super::*;
use crate::session::{AgentId, Agents, DiskTransfer};
use crate::state::State;
use crate::store::{AgentRow, TokenHash};
use crate::{Approval, Control, ControlError, NewToken, Progress, ProofRange};

/// What the next conversion does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    Succeed,
    Fail(&'static str),
    Panic,
    /// Works until it is stopped.
    Hang,
    /// Works until it is told to go on.
    Wait,
}

#[derive(Debug, Default)]
struct FakeRemote {
    connected: AtomicBool,
    stopped: AtomicBool,
    progress: Mutex<Progress>,
    disks: Mutex<Vec<DiskTransfer>>,
    plan: Mutex<Option<SpoolPlan>>,
}

impl Remote for Arc<FakeRemote> {
    fn sources(&self) -> Vec<Arc<dyn BlockSource>> {
        vec![]
    }

    fn progress(&self) -> Progress {
        *self.progress.lock().unwrap()
    }

    fn disks(&self) -> Vec<DiskTransfer> {
        self.disks.lock().unwrap().clone()
    }

    fn is_connected(&self) -> bool {
        self.connected.load(Ordering::SeqCst)
    }

    fn prove(&self, reread: bool, _: &CancelToken) -> image::Result<Vec<ProofRange>> {
        assert!(!reread);
        Ok(vec![ProofRange {
            disk: 0,
            offset: 0,
            len: 1 << 20,
            covered_bytes: 65536,
            root: "ab".into(),
        }])
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn machine(&self) -> Option<Arc<crate::session::RemoteMachine>> {
        None
    }
}

#[derive(Debug, Default)]
struct FakeBackend {
    acts: Mutex<VecDeque<Act>>,
    go: AtomicBool,
    running: AtomicUsize,
    most_running: AtomicUsize,
    remotes: Mutex<Vec<Arc<FakeRemote>>>,
    conversions: Mutex<Vec<Conversion>>,
    bad: Mutex<Vec<DiskTransfer>>,
}

impl FakeBackend {
    fn remote(&self, place: usize) -> Arc<FakeRemote> {
        Arc::clone(&self.remotes.lock().unwrap()[place])
    }
}

impl Backend for FakeBackend {
    fn open(&self, _: &Inventory, _: &[u32], plan: SpoolPlan) -> image::Result<Arc<dyn Remote>> {
        std::fs::create_dir_all(&plan.spool).unwrap();
        let bad = self.bad.lock().unwrap().clone();
        let bad_bytes = bad.iter().flat_map(|disk| &disk.bad);
        let remote = Arc::new(FakeRemote {
            connected: AtomicBool::new(true),
            progress: Mutex::new(Progress {
                done_bytes: 7,
                bad_bytes: bad_bytes.map(|range| range.end - range.start).sum(),
                ..Progress::default()
            }),
            disks: Mutex::new(bad),
            plan: Mutex::new(Some(plan)),
            ..FakeRemote::default()
        });
        self.remotes.lock().unwrap().push(Arc::clone(&remote));
        Ok(Arc::new(remote))
    }

    fn machine(&self, inventory: &Inventory, _: &Wish) -> Machine {
        machine(&format!("{} disks", inventory.disks.len()))
    }

    fn convert(
        &self,
        job: &Conversion,
        _: Opened,
        gate: &dyn Gate,
        events: &dyn Events,
        cancel: &CancelToken,
    ) -> convert::Result<Outcome> {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(now, Ordering::SeqCst);
        self.conversions.lock().unwrap().push(job.clone());
        let act = self.acts.lock().unwrap().pop_front();
        let result = perform(self, act.unwrap_or(Act::Succeed), gate, events, cancel);
        self.running.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

fn perform(
    backend: &FakeBackend,
    act: Act,
    gate: &dyn Gate,
    events: &dyn Events,
    cancel: &CancelToken,
) -> convert::Result<Outcome> {
    events.stage(Stage::Inspect, "inspecting the guest");
    events.log("a line");
    let tired = |go: bool| cancel.is_cancelled() || go && backend.go.load(Ordering::SeqCst);
    match act {
        Act::Fail(text) => return Err(convert::Error::Refused(text.into())),
        Act::Panic => panic!("told to"),
        Act::Hang | Act::Wait => {
            events.stage(Stage::Copy, "copying 1 disk");
            while !tired(act == Act::Wait) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Act::Succeed => {}
    }
    if cancel.is_cancelled() {
        return Err(convert::Error::Cancelled);
    }
    gate.before_finish(events, cancel)?;
    Ok(Outcome {
        placed: target::Placed {
            files: vec!["/srv/x-sda".into()],
            domain: Some("x".into()),
            notes: vec![],
        },
        changes: vec![],
        steps: vec![],
        guest: serde_json::from_str(GUEST).unwrap(),
    })
}

const GUEST: &str = r#"{"root":"/dev/sda1","os":"linux","distro":"debian","distro_like":[],"version":"12",
    "product_name":"Debian 12","hostname":"web","arch":"x86_64","osinfo_id":null,"mountpoints":[],"kernels":[],
    "boot_loaders":[],"init":"systemd","initramfs_generator":"","package_format":"dpkg","hypervisor_tools":[],
    "has_guest_agent":false,"selinux":false}"#;

fn machine(name: &str) -> Machine {
    Machine::bare(name, types::Hypervisor::Physical)
}

/// Knows `-o null` and little else.
pub(crate) fn parse(words: &[String]) -> std::result::Result<Conversion, String> {
    if let Some(wrong) = words.iter().find(|word| word.contains("--frobnicate")) {
        return Err(format!("{wrong}: no such option"));
    }
    Ok(Conversion {
        target: TargetOptions::new(TargetKind::Null, ""),
        name: None,
        networks: convert::NetworkRules::default(),
        static_ips: vec![],
        root: convert::RootChoice::Ask,
        trim: convert::Trim::Nothing,
        keys: vec![],
        appliance: convert::ApplianceOptions::default(),
        parallel: 1,
        report: None,
        unknown: convert::Unknown::Refuse,
        block_driver: None,
        customise: vec![],
        payload: vec![],
        qemu_ga: None,
        allow_guest_code: false,
        virtio_win: None,
        force_hibernated: false,
    })
}

pub(crate) fn config(state: &Path) -> ServerConfig {
    ServerConfig {
        state: state.into(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        web: None,
        options: vec!["-o".into(), "null".into()],
        parse: Arc::new(parse),
        auto_approve: true,
        max_jobs: 2,
        job_bandwidth: None,
        total_bandwidth: None,
        reserve_bytes: 0,
        resync: false,
        allow_bad_sectors: false,
        reread_proof: false,
        agents_choose_output: false,
        agent_patience: None,
    }
}

/// For servers that see no job.
#[derive(Debug)]
pub(crate) struct NoBackend;

impl Backend for NoBackend {
    fn open(&self, _: &Inventory, _: &[u32], _: SpoolPlan) -> image::Result<Arc<dyn Remote>> {
        Err(image::Error::new(image::ErrorKind::Usage, "no disks here"))
    }

    fn machine(&self, _: &Inventory, _: &Wish) -> Machine {
        machine("none")
    }

    fn convert(
        &self,
        _: &Conversion,
        _: Opened,
        _: &dyn Gate,
        _: &dyn Events,
        _: &CancelToken,
    ) -> convert::Result<Outcome> {
        Err(convert::Error::Cancelled)
    }
}

/// A server without its sockets.
struct House {
    jobs: Arc<Jobs>,
    backend: Arc<FakeBackend>,
    scheduler: Option<std::thread::JoinHandle<()>>,
    _state: State,
    dir: Arc<tempfile::TempDir>,
}

impl House {
    fn new(change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::over(Arc::new(tempfile::tempdir().unwrap()), change)
    }

    fn over(dir: Arc<tempfile::TempDir>, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = config(&dir.path().join("state"));
        change(&mut config);
        let state = State::open(&config.state).unwrap();
        let store = Arc::new(Store::open(&state.database()).unwrap());
        let authority = Arc::new(Authority::open(&state.pki()).unwrap());
        let backend = Arc::new(FakeBackend::default());
        let addresses = Arc::new(OnceLock::new());
        let fake: Arc<dyn Backend> = Arc::clone(&backend) as Arc<dyn Backend>;
        let jobs = Jobs::open(config, store, authority, addresses, fake, state.spools()).unwrap();
        let scheduler = Arc::clone(&jobs);
        Self {
            jobs,
            backend,
            scheduler: Some(std::thread::spawn(move || scheduler.schedule())),
            _state: state,
            dir,
        }
    }

    fn stop(mut self) -> Arc<tempfile::TempDir> {
        self.jobs.shut_down();
        self.scheduler.take().unwrap().join().unwrap();
        Arc::clone(&self.dir)
    }

    fn acts(&self, acts: &[Act]) {
        self.backend
            .acts
            .lock()
            .unwrap()
            .extend(acts.iter().cloned());
    }

    /// Enrols machine `n` as agent `agent`.
    fn enrol(&self, agent: &str, n: u8) -> AgentId {
        let hash = TokenHash::of(Secret([n; 16]));
        let token = NewToken {
            servers: vec![],
            ttl_seconds: 0,
            uses: 1,
            auto_approve: false,
            note: String::new(),
        };
        // It may be there from an earlier call.
        let _ = self.jobs.store.add_token(hash, &token);
        let row = AgentRow {
            id: agent.into(),
            machine_id: vec![n; 32],
            label: String::new(),
            auto_approve: false,
        };
        self.jobs
            .store
            .redeem(hash, &row, wire::tls::fingerprint, || {
                Ok(agent.as_bytes().to_vec())
            })
            .unwrap()
            .unwrap();
        AgentId(agent.into())
    }

    fn hello(&self, agent: &AgentId, hello: &Hello) -> hello::Admission {
        let from = Some("192.0.2.9:555".parse().unwrap());
        self.jobs.admit(agent, from, hello).unwrap()
    }

    fn job(&self, n: u8) -> JobId {
        let agent = self.enrol(&format!("agent{n}"), n);
        self.hello(&agent, &hello_of(n)).job
    }

    fn view(&self, id: JobId) -> crate::JobView {
        Control::job(self.jobs.as_ref(), id).unwrap().job
    }

    fn until(&self, id: JobId, state: JobState) -> crate::JobView {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let view = self.view(id);
            if view.state == state {
                return view;
            }
            assert!(Instant::now() < end, "expected {state:?}, found {view:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self, id: JobId) -> String {
        let lines = Control::logs(self.jobs.as_ref(), id, 0, 1000).unwrap();
        let lines: Vec<_> = lines.iter().map(|line| line.text.clone()).collect();
        lines.join("\n")
    }

    fn spool(&self, id: JobId) -> bool {
        self.jobs.spool_of(id).exists()
    }
}

fn disk(name: &str, serial: &str) -> Disk {
    Disk {
        name: name.into(),
        serial: serial.into(),
        virtual_size: 1 << 30,
        logical_sector_size: 512,
        ..Disk::default()
    }
}

fn hello_of(n: u8) -> Hello {
    Hello {
        protocol: wire::P2V_PROTOCOL,
        session: vec![n; 16],
        inventory: Some(Inventory {
            machine_id: vec![n; 32],
            disks: vec![disk("sda", "s1"), disk("sdb", "s2")],
            ..Inventory::default()
        }),
        wish: Some(Wish {
            name: format!("guest {n}"),
            ..Wish::default()
        }),
    }
}

fn keyed(options: &[&str], secret: &str) -> Approval {
    Approval {
        options: options.iter().map(|word| (*word).to_owned()).collect(),
        keys: vec![("all".into(), secret.into())],
    }
}

#[test]
fn a_job_runs_to_its_end_and_its_record_says_how() {
    let house = House::new(|_| {});
    house.acts(&[Act::Wait]);
    let agent = house.enrol("a", 1);
    let admission = house.hello(&agent, &hello_of(1));
    let id = admission.job;
    assert!(!admission.resumed);
    let view = house.until(id, JobState::Copying);
    assert_eq!(view.name, "guest-1");
    assert_eq!(view.text, "copying 1 disk");
    assert!(view.connected && view.address == "192.0.2.9");
    assert!(house.spool(id));
    house.backend.go.store(true, Ordering::SeqCst);
    let view = house.until(id, JobState::Done);
    assert!(view.ended_unix_ms >= view.created_unix_ms);
    assert_eq!(view.progress.done_bytes, 7);
    assert_eq!(view.options, ["-o", "null", "--on=guest-1"]);
    let detail = Control::job(house.jobs.as_ref(), id).unwrap();
    assert_eq!(detail.placed, ["domain x", "/srv/x-sda"]);
    assert_eq!(
        detail.guest.as_deref(),
        Some("Debian 12 on /dev/sda1, host name web")
    );
    assert_eq!(detail.proof.len(), 1);
    assert_eq!(detail.disks.len(), 2);
    assert!(house.log(id).contains("same hash on both sides"));
    let status = admission.status.borrow().clone();
    assert_eq!(status.state(), wire::session::JobState::Done);
    // The spool goes soon after.
    let end = Instant::now() + Duration::from_secs(5);
    while house.spool(id) {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    let conversions = house.backend.conversions.lock().unwrap();
    assert_eq!(conversions[0].root, convert::RootChoice::Single);
    assert_eq!(conversions[0].name.as_deref(), Some("guest-1"));
    drop(conversions);
    // The same agent sees its end; the certificate brings nothing new of itself.
    assert_eq!(house.hello(&agent, &hello_of(1)).job, id);
    assert!(matches!(
        Control::retry(house.jobs.as_ref(), id),
        Err(ControlError::Refused(_))
    ));
    house.stop();
}

#[test]
fn four_machines_at_once_keep_to_the_limit() {
    let house = House::new(|_| {});
    house.acts(&[Act::Wait, Act::Wait, Act::Wait, Act::Wait]);
    let ids: Vec<JobId> = (1..=4).map(|n| house.job(n)).collect();
    house.until(ids[0], JobState::Copying);
    house.until(ids[1], JobState::Copying);
    std::thread::sleep(Duration::from_millis(600));
    let view = house.view(ids[2]);
    assert_eq!(view.state, JobState::Queued);
    assert!(view.text.contains("2 running jobs"), "{}", view.text);
    house.backend.go.store(true, Ordering::SeqCst);
    for id in ids {
        house.until(id, JobState::Done);
    }
    assert_eq!(house.backend.most_running.load(Ordering::SeqCst), 2);
    house.stop();
}

#[test]
fn approval_brings_options_and_keys_that_are_never_written() {
    const SECRET: &str = "correct horse battery";
    let house = House::new(|config| config.auto_approve = false);
    house.acts(&[Act::Wait]);
    let id = house.job(1);
    let view = house.view(id);
    assert_eq!(view.state, JobState::WaitingForApproval);
    let control: &dyn Control = house.jobs.as_ref();
    let refused = control.approve(id, keyed(&["--frobnicate"], SECRET));
    assert!(matches!(refused, Err(ControlError::Refused(text)) if text.contains("--frobnicate")));
    assert_eq!(house.view(id).state, JobState::WaitingForApproval);
    let words = [
        "-on",
        "other",
        "--key",
        "x:key:staple battery horse",
        "--key=y:file:/k",
    ];
    control.approve(id, keyed(&words, SECRET)).unwrap();
    let view = house.until(id, JobState::Copying);
    assert_eq!(view.name, "other");
    assert!(view.options.contains(&"--key=x:key:…".to_owned()));
    assert!(matches!(
        control.approve(id, Approval::default()),
        Err(ControlError::Refused(_))
    ));
    {
        let conversions = house.backend.conversions.lock().unwrap();
        assert_eq!(conversions[0].keys[0].secret, SECRET.as_bytes());
    }
    assert!(!format!("{:?}", keyed(&[], SECRET)).contains(SECRET));
    // The server is killed: all that is left is what was written.
    let dir = house.stop();
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let content = std::fs::read(&path).unwrap();
            for secret in [SECRET, "staple battery horse"] {
                let found = content
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes());
                assert!(!found, "{}", path.display());
            }
            files += 1;
        }
    }
    assert!(files >= 2);
    // After a restart the key has to be given again; the options are still there.
    let house = House::over(dir, |config| config.auto_approve = false);
    let view = house.view(id);
    assert_eq!(view.state, JobState::WaitingForApproval);
    assert!(view.text.contains("key"), "{}", view.text);
    let agent = house.enrol("again", 1);
    assert!(house.hello(&agent, &hello_of(1)).resumed);
    assert_eq!(house.view(id).state, JobState::WaitingForApproval);
    let control: &dyn Control = house.jobs.as_ref();
    control.approve(id, keyed(&[], SECRET)).unwrap();
    assert_eq!(house.until(id, JobState::Done).name, "other");
    house.stop();
}

#[test]
fn an_agent_that_is_away_is_shown_and_awaited() {
    let house = House::new(|_| {});
    house.acts(&[Act::Wait]);
    let agent = house.enrol("a", 1);
    let id = house.hello(&agent, &hello_of(1)).job;
    house.until(id, JobState::Copying);
    let remote = house.backend.remote(0);
    remote.connected.store(false, Ordering::SeqCst);
    house.jobs.gone(id);
    let view = house.view(id);
    assert_eq!(view.state, JobState::WaitingForAgent);
    assert!(!view.connected);
    remote.connected.store(true, Ordering::SeqCst);
    let admission = house.hello(&agent, &hello_of(1));
    assert!(admission.resumed && admission.job == id);
    assert_eq!(house.view(id).state, JobState::Copying);
    assert_eq!(house.backend.remotes.lock().unwrap().len(), 1);
    assert!(house.log(id).contains("the agent is away"));
    house.backend.go.store(true, Ordering::SeqCst);
    house.until(id, JobState::Done);
    house.stop();
}

#[test]
fn a_stopped_server_goes_on_where_it_was() {
    let house = House::new(|_| {});
    house.acts(&[Act::Hang, Act::Hang]);
    let id = house.job(1);
    let queued_behind = house.job(2);
    house.until(id, JobState::Copying);
    let begun = Instant::now();
    let remote = house.backend.remote(0);
    let dir = house.stop();
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(remote.stopped.load(Ordering::SeqCst));
    let house = House::over(dir, |_| {});
    assert_eq!(house.view(id).state, JobState::WaitingForAgent);
    assert_eq!(house.view(queued_behind).state, JobState::WaitingForAgent);
    assert!(house.spool(id));
    let agent = house.enrol("new", 1);
    let admission = house.hello(&agent, &hello_of(1));
    assert!(admission.resumed && admission.job == id);
    house.until(id, JobState::Done);
    house.stop();
}

#[test]
fn cancel_works_in_every_state() {
    let house = House::new(|config| config.auto_approve = false);
    let control: &dyn Control = house.jobs.as_ref();
    let waiting = house.job(1);
    control.cancel(waiting).unwrap();
    assert_eq!(house.view(waiting).state, JobState::Cancelled);
    house.acts(&[Act::Hang]);
    let running = house.job(2);
    control.approve(running, Approval::default()).unwrap();
    house.until(running, JobState::Copying);
    house.jobs.user_action(running, UserAction::Cancel);
    let view = house.until(running, JobState::Cancelled);
    assert_eq!(view.text, "given up at the machine");
    assert!(house.backend.remote(1).stopped.load(Ordering::SeqCst));
    assert!(house.spool(running), "for another try");
    let away = house.job(3);
    house
        .backend
        .remote(2)
        .connected
        .store(false, Ordering::SeqCst);
    house.jobs.gone(away);
    control.approve(away, Approval::default()).unwrap();
    assert_eq!(house.view(away).state, JobState::WaitingForAgent);
    control.cancel(away).unwrap();
    assert_eq!(house.view(away).state, JobState::Cancelled);
    for id in [waiting, running, away] {
        assert!(matches!(control.cancel(id), Err(ControlError::Refused(_))));
    }
    assert!(matches!(
        control.cancel(JobId(99)),
        Err(ControlError::NotFound(_))
    ));
    house.stop();
}

#[test]
fn a_failed_job_is_tried_again_over_what_it_has() {
    let house = House::new(|_| {});
    house.acts(&[Act::Fail("no operating system"), Act::Panic]);
    let agent = house.enrol("a", 1);
    let admission = house.hello(&agent, &hello_of(1));
    let id = admission.job;
    let view = house.until(id, JobState::Failed);
    assert_eq!(view.text, "no operating system");
    assert_eq!(admission.status.borrow().error, "no operating system");
    assert!(house.spool(id));
    house.jobs.user_action(id, UserAction::Retry);
    let view = house.until(id, JobState::Failed);
    assert!(view.text.contains("failed inside"), "{}", view.text);
    Control::retry(house.jobs.as_ref(), id).unwrap();
    house.until(id, JobState::Done);
    // The same remote disks served all three runs.
    assert_eq!(house.backend.remotes.lock().unwrap().len(), 1);
    house.stop();
}

#[test]
fn a_cancelled_job_needs_its_agent_to_dial_again() {
    let house = House::new(|_| {});
    house.acts(&[Act::Hang]);
    let agent = house.enrol("a", 1);
    let admission = house.hello(&agent, &hello_of(1));
    let id = admission.job;
    house.until(id, JobState::Copying);
    let control: &dyn Control = house.jobs.as_ref();
    control.cancel(id).unwrap();
    house.until(id, JobState::Cancelled);
    control.retry(id).unwrap();
    assert!(
        admission.status.has_changed().is_err(),
        "the session is told to end"
    );
    assert_eq!(house.view(id).state, JobState::WaitingForAgent);
    assert_eq!(house.hello(&agent, &hello_of(1)).job, id);
    house.until(id, JobState::Done);
    assert_eq!(house.backend.remotes.lock().unwrap().len(), 2);
    house.stop();
}

#[test]
fn unreadable_sectors_fail_the_job_unless_they_are_allowed() {
    let bad = vec![
        DiskTransfer::default(),
        DiskTransfer {
            bad: vec![0x1000..0x1400, 0x8000..0x8200],
            ..DiskTransfer::default()
        },
    ];
    let house = House::new(|_| {});
    *house.backend.bad.lock().unwrap() = bad.clone();
    let id = house.job(1);
    let view = house.until(id, JobState::Failed);
    for word in ["1536 bytes", "sdb", "0x1000", "--allow-bad-sectors"] {
        assert!(view.text.contains(word), "{word}: {}", view.text);
    }
    let detail = Control::job(house.jobs.as_ref(), id).unwrap();
    assert_eq!(detail.disks[1].bad, bad[1].bad);
    assert!(detail.proof.is_empty());
    // Tried again, they are read again.
    Control::retry(house.jobs.as_ref(), id).unwrap();
    let agent = house.enrol("b", 1);
    house.hello(&agent, &hello_of(1));
    house.until(id, JobState::Failed);
    let plan = house.backend.remote(1).plan.lock().unwrap().clone();
    assert!(plan.unwrap().retry_bad);
    // Another failure mentions them.
    house.acts(&[Act::Panic]);
    house.stop();

    let house = House::new(|config| config.allow_bad_sectors = true);
    *house.backend.bad.lock().unwrap() = bad.clone();
    let id = house.job(1);
    let view = house.until(id, JobState::DoneWithErrors);
    assert_eq!(view.progress.bad_bytes, 1536);
    let detail = Control::job(house.jobs.as_ref(), id).unwrap();
    assert_eq!(detail.disks[1].bad, bad[1].bad);
    assert_eq!(detail.proof.len(), 1);
    house.stop();
}

#[test]
fn a_machine_with_other_disks_is_another_job_and_renumbered_ones_are_not() {
    let house = House::new(|_| {});
    house.acts(&[Act::Hang, Act::Hang, Act::Hang]);
    let agent = house.enrol("a", 1);
    let id = house.hello(&agent, &hello_of(1)).job;
    house.until(id, JobState::Copying);
    let mut renumbered = hello_of(1);
    let inventory = renumbered.inventory.as_mut().unwrap();
    inventory.disks.insert(0, disk("sda", "a USB stick"));
    renumbered.wish.as_mut().unwrap().disks = vec![1, 2];
    // The run has to end first; the agent dials again until it has.
    let end = Instant::now() + Duration::from_secs(5);
    let admission = loop {
        match house.jobs.admit(&agent, None, &renumbered) {
            Ok(admission) => break admission,
            Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable),
        }
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(admission.job, id);
    assert_eq!(house.backend.remotes.lock().unwrap().len(), 2);
    house.until(id, JobState::Copying);
    let mut other = hello_of(1);
    other.inventory.as_mut().unwrap().disks[1].serial = "replaced".into();
    let new = house.hello(&agent, &other);
    assert!(new.job != id && !new.resumed);
    let view = house.until(id, JobState::Failed);
    assert!(view.text.contains("other disks"), "{}", view.text);
    house.stop();
}

#[test]
fn a_hello_that_lies_is_refused() {
    type Lie = fn(&mut Hello);
    let house = House::new(|_| {});
    let agent = house.enrol("a", 1);
    let lies: &[(&str, tonic::Code, Lie)] = &[
        ("protocol", tonic::Code::FailedPrecondition, |h| {
            h.protocol = 99
        }),
        ("session", tonic::Code::InvalidArgument, |h| {
            h.session.clear()
        }),
        ("no inventory", tonic::Code::InvalidArgument, |h| {
            h.inventory = None
        }),
        ("other machine", tonic::Code::PermissionDenied, |h| {
            h.inventory.as_mut().unwrap().machine_id = vec![2; 32];
        }),
        ("no disks", tonic::Code::InvalidArgument, |h| {
            h.inventory.as_mut().unwrap().disks.clear();
        }),
        ("no such disk", tonic::Code::InvalidArgument, |h| {
            h.wish.as_mut().unwrap().disks = vec![5];
        }),
        ("twice", tonic::Code::InvalidArgument, |h| {
            h.wish.as_mut().unwrap().disks = vec![0, 0];
        }),
        ("endless", tonic::Code::InvalidArgument, |h| {
            h.inventory.as_mut().unwrap().disks[0].virtual_size = u64::MAX - 511;
        }),
        ("odd sectors", tonic::Code::InvalidArgument, |h| {
            h.inventory.as_mut().unwrap().disks[0].logical_sector_size = 0;
        }),
        ("too many", tonic::Code::InvalidArgument, |h| {
            h.inventory.as_mut().unwrap().disks = vec![disk("x", "y"); 1000];
        }),
    ];
    for (name, code, lie) in lies {
        let mut hello = hello_of(1);
        lie(&mut hello);
        let status = house.jobs.admit(&agent, None, &hello).err().unwrap();
        assert_eq!(status.code(), *code, "{name}: {status}");
    }
    assert!(Control::jobs(house.jobs.as_ref()).unwrap().is_empty());
    let stranger = AgentId("stranger".into());
    let status = house.jobs.admit(&stranger, None, &hello_of(1)).err();
    assert_eq!(status.unwrap().code(), tonic::Code::Unauthenticated);
    house.stop();
}

#[test]
fn wishes_are_followed_within_bounds() {
    let house = House::new(|config| config.auto_approve = false);
    let agent = house.enrol("a", 1);
    let mut hello = hello_of(1);
    let wish = hello.wish.as_mut().unwrap();
    wish.name = "../../etc/cron.d/x".into();
    wish.output = vec![wire::session::OutputOption {
        name: "os".into(),
        value: "/etc".into(),
    }];
    wish.networks = vec![
        wire::session::NetworkWish {
            interface: String::new(),
            network: "prod".into(),
        },
        wire::session::NetworkWish {
            interface: "eno1".into(),
            network: "dmz".into(),
        },
        wire::session::NetworkWish {
            interface: "eno1".into(),
            network: "a:b\n--overwrite".into(),
        },
    ];
    hello.inventory.as_mut().unwrap().nics = vec![wire::inventory::Nic {
        name: "eno1".into(),
        mac: "52:54:00:00:00:01".into(),
        ..wire::inventory::Nic::default()
    }];
    let id = house.hello(&agent, &hello).job;
    assert_eq!(
        house.view(id).options,
        [
            "-o",
            "null",
            "--on=etc-cron.d-x",
            "--network=prod",
            "--mac=52:54:00:00:00:01:network:dmz"
        ]
    );
    house.stop();
    let house = House::new(|config| {
        config.auto_approve = false;
        config.agents_choose_output = true;
    });
    let agent = house.enrol("a", 1);
    let id = house.hello(&agent, &hello).job;
    assert!(house.view(id).options.contains(&"--os=/etc".to_owned()));
    house.stop();
}

#[test]
fn a_resync_starts_from_the_newest_kept_spool() {
    let house = House::new(|config| config.resync = true);
    let first = house.job(1);
    house.until(first, JobState::Done);
    let token = |secret: u8, agent: &str| {
        let hash = TokenHash::of(Secret([secret; 16]));
        let new = NewToken {
            servers: vec![],
            ttl_seconds: 0,
            uses: 1,
            auto_approve: false,
            note: String::new(),
        };
        house.jobs.store.add_token(hash, &new).unwrap();
        let row = AgentRow {
            id: agent.into(),
            machine_id: vec![1; 32],
            label: String::new(),
            auto_approve: false,
        };
        let sign = || Ok(agent.as_bytes().to_vec());
        let store = &house.jobs.store;
        store
            .redeem(hash, &row, wire::tls::fingerprint, sign)
            .unwrap()
            .unwrap();
        AgentId(agent.into())
    };
    let agent = token(100, "second");
    let mut hello = hello_of(1);
    hello.session = vec![77; 16];
    assert!(house.spool(first));
    let second = house.hello(&agent, &hello).job;
    assert_ne!(second, first);
    let plan = house
        .backend
        .remote(1)
        .plan
        .lock()
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!(plan.base, Some(house.jobs.spool_of(first)));
    house.until(second, JobState::Done);
    let end = Instant::now() + Duration::from_secs(5);
    while house.spool(first) {
        assert!(Instant::now() < end, "the older one goes");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(house.spool(second));
    // And a start without need for them removes strays only.
    std::fs::create_dir(house.jobs.spools.join("999")).unwrap();
    let dir = house.stop();
    let house = House::over(dir, |config| config.resync = true);
    assert!(house.spool(second) && !house.spool(JobId(999)));
    house.stop();
}

#[test]
fn no_job_starts_without_room() {
    let house = House::new(|config| config.reserve_bytes = u64::MAX);
    let id = house.job(1);
    std::thread::sleep(Duration::from_millis(400));
    let view = house.view(id);
    assert_eq!(view.state, JobState::Queued);
    assert!(view.text.contains("disk space"), "{}", view.text);
    house.stop();
}

#[test]
fn one_certificate_brings_a_bounded_number_of_jobs() {
    let house = House::new(|config| config.auto_approve = false);
    let agent = house.enrol("a", 1);
    let mut made = 0;
    let refused = loop {
        let mut hello = hello_of(1);
        hello.inventory.as_mut().unwrap().disks[0].serial = format!("disk {made}");
        match house.jobs.admit(&agent, None, &hello) {
            Ok(_) => made += 1,
            Err(status) => break status,
        }
        assert!(made < 100);
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert_eq!(made, 16);
    house.stop();
}
