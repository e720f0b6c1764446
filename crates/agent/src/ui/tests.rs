//! The screens as they are seen, the way of a person through them, and the loop on a real pseudo terminal.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use rustix::pty::OpenptFlags;
use tokio::sync::{mpsc, watch};
use wire::join::{Fingerprint, JoinString, Secret};
use wire::session::{JobState, JobStatus};

use super::form::Id;
use super::keys::{Decoder, Key};
use super::model::{Effect, Model};
use super::tabs::Tab;
use super::*;
use crate::app::{Command, Connection, InterfaceView, NetworkView, Phase, View};
use crate::config::{Addressing, BondConfig, Config, InterfaceConfig, Post};

#[path = "../../examples/ui_demo/sample.rs"]
mod sample;

fn join() -> JoinString {
    JoinString {
        servers: vec!["192.0.2.7:7440".into()],
        fingerprint: Fingerprint([0xa5; 32]),
        secret: Secret([7; 16]),
    }
}

/// A person at one console, and a controller that takes every configuration at once.
struct Person {
    model: Model,
    view: View,
    sent: Vec<Command>,
}

impl Person {
    fn new(view: View) -> Self {
        let mut model = Model::default();
        model.look(&view);
        Self {
            model,
            view,
            sent: Vec::new(),
        }
    }

    fn key(&mut self, key: Key) -> &mut Self {
        for effect in self.model.key(key, &self.view) {
            if let Effect::Send(command) = effect {
                if let Command::Configure(config) = &command {
                    self.view.config = (**config).clone();
                } else {
                    self.sent.push(command);
                }
            }
        }
        let view = self.view.clone();
        self.model.look(&view);
        self
    }

    fn keys(&mut self, keys: &[Key]) -> &mut Self {
        for key in keys {
            self.key(*key);
        }
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            self.key(Key::Char(c));
        }
        self
    }

    fn change(&mut self, change: impl FnOnce(&mut View)) -> &mut Self {
        change(&mut self.view);
        let view = self.view.clone();
        self.model.look(&view);
        self
    }

    fn focused(&self) -> Option<Id> {
        let rows = self.model.rows(&self.view);
        self.model.focus(&rows).id
    }

    fn screen(&self, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| draw::render(&self.model, &self.view, frame.buffer_mut()))
            .unwrap();
        terminal.backend().to_string()
    }

    fn see(&self) -> String {
        self.screen(80, 24)
    }
}

fn status(state: JobState) -> JobStatus {
    JobStatus {
        state: state.into(),
        text: "copying sda".into(),
        done_bytes: 13 << 30,
        total_bytes: 40 << 30,
        rate_bytes: 112 << 20,
        eta_seconds: 247,
        wire_bytes: 8 << 30,
        bad_bytes: 8192,
        error: String::new(),
    }
}

fn running(state: JobState, phase: Phase) -> View {
    View {
        phase,
        job: Some(12),
        status: Some(status(state)),
        connection: Connection::Up("192.0.2.7:7440".into()),
        ..sample::view()
    }
}

#[test]
fn screens_of_the_set_up() {
    let mut person = Person::new(sample::view());
    insta::assert_snapshot!("server", person.see());
    insta::assert_snapshot!("network", person.key(Key::F(1)).see());
    insta::assert_snapshot!("disks", person.key(Key::F(3)).see());
    insta::assert_snapshot!("disks_below", person.keys(&[Key::PageDown; 3]).see());
    insta::assert_snapshot!("guest", person.key(Key::F(4)).see());
    insta::assert_snapshot!("start_with_missing", person.key(Key::F(6)).see());
    insta::assert_snapshot!("log", person.key(Key::F(9)).see());
    insta::assert_snapshot!("job_not_started", person.key(Key::F(7)).see());
}

#[test]
fn screens_while_the_hardware_is_detected() {
    let mut person = Person::new(View::default());
    insta::assert_snapshot!("detecting_disks", person.key(Key::F(3)).see());
    insta::assert_snapshot!("detecting_network", person.key(Key::F(1)).see());
}

#[test]
fn screens_of_the_network() {
    let mut person = Person::new(sample::view());
    person.change(|view| {
        view.config.network = vec![InterfaceConfig {
            interface: Some("bond0".into()),
            address: Addressing::Dhcp,
            vlan: Some(7),
            bond: Some(BondConfig {
                ports: vec!["eth0".into(), "eth2".into()],
                mode: "802.3ad".into(),
                options: Vec::new(),
            }),
        }];
        view.network.busy = true;
    });
    person.keys(&[Key::F(1), Key::Left]);
    insta::assert_snapshot!("network_bond", person.see());
    person.keys(&[Key::Right, Key::Down, Key::Left]);
    person.change(|view| {
        view.network.busy = false;
        view.network.error = Some("eth0: no answer".into());
    });
    insta::assert_snapshot!("network_static", person.see());
}

#[test]
fn screens_of_the_fingerprint() {
    let mut person = Person::new(sample::view());
    person.change(|view| {
        view.config.server = Some("192.0.2.7".into());
        view.shown_fingerprint = Some(Fingerprint([0xa5; 32]));
        view.connection = Connection::Up("192.0.2.7:7440".into());
    });
    insta::assert_snapshot!("fingerprint_asked", person.see());
    person.keys(&[Key::Down, Key::Down, Key::Down, Key::Right, Key::Enter]);
    insta::assert_snapshot!("fingerprint_refused", person.see());
    person.change(|view| view.config.fingerprint = Some(Fingerprint([1; 32])));
    insta::assert_snapshot!("fingerprint_another", person.see());
}

#[test]
fn screens_of_the_job() {
    let mut person = Person::new(running(JobState::WaitingForApproval, Phase::Running));
    insta::assert_snapshot!("job_waiting", person.see());
    person.change(|view| *view = running(JobState::Copying, Phase::Running));
    insta::assert_snapshot!("job_copying", person.see());
    person.change(|view| {
        view.connection = Connection::Connecting(Some("192.0.2.7:7440: timed out".into()));
    });
    person.key(Key::Enter);
    insta::assert_snapshot!("job_cancel_asked", person.see());
    person.change(|view| *view = running(JobState::DoneWithErrors, Phase::Ended));
    insta::assert_snapshot!("job_done_with_errors", person.see());
    person.change(|view| {
        *view = running(JobState::Failed, Phase::Ended);
        view.status.as_mut().unwrap().error = "no space on /srv/guests".into();
    });
    insta::assert_snapshot!("job_failed", person.see());
}

#[test]
fn the_shortest_way_is_the_documented_one() {
    let mut person = Person::new(sample::view());
    let typed = format!("\x1bOQ{}\r\x1b[17~\r", join());
    let keys = Decoder::default().feed(typed.as_bytes());
    person.keys(&keys);
    assert!(
        matches!(person.sent.as_slice(), [Command::Start]),
        "{:?}",
        person.sent
    );
    assert_eq!(person.view.config.join, Some(join()));
    // The same with Esc and digits, the escapes alone.
    let mut person = Person::new(sample::view());
    person
        .keys(&[Key::Esc, Key::Char('2')])
        .text(&join().to_string());
    person.keys(&[Key::Enter, Key::Esc, Key::Char('6'), Key::Enter]);
    assert!(
        matches!(person.sent.as_slice(), [Command::Start]),
        "{:?}",
        person.sent
    );
    insta::assert_snapshot!("start_complete", person.see());
}

#[test]
fn by_address_the_fingerprint_is_compared_first() {
    let mut person = Person::new(sample::view());
    person.text("192.0.2.7:7440").key(Key::Enter);
    person.text(&Secret([7; 16]).code()).key(Key::Enter);
    person.keys(&[Key::F(6), Key::Enter]);
    assert!(person.sent.is_empty());
    assert!(person.see().contains("Not yet: F2 Server: the fingerprint"));
    person.keys(&[Key::F(2), Key::Down, Key::Down]);
    assert!(person.see().contains("> [ Test connection ]"));
    person.key(Key::Enter);
    assert!(matches!(person.sent.as_slice(), [Command::TestConnection]));
    person.change(|view| view.shown_fingerprint = Some(Fingerprint([0xa5; 32])));
    person.key(Key::Down);
    assert!(person.see().contains("> [ Yes, the same ]"));
    person.keys(&[Key::Enter, Key::F(6), Key::Enter]);
    assert!(matches!(person.sent.as_slice(), [_, Command::Start]));
    let config = &person.view.config;
    assert_eq!(config.server.as_deref(), Some("192.0.2.7:7440"));
    assert_eq!(config.code, Some(Secret([7; 16])));
    assert_eq!(config.fingerprint, Some(Fingerprint([0xa5; 32])));
    // Another server: what was confirmed does not hold for it.
    person
        .keys(&[Key::F(2), Key::Ctrl('u')])
        .text("192.0.2.8")
        .key(Key::Enter);
    assert_eq!(person.view.config.fingerprint, None);
}

#[test]
fn disks_and_interfaces_are_chosen() {
    let mut person = Person::new(sample::view());
    person.keys(&[Key::F(3), Key::Down, Key::Char(' ')]);
    assert_eq!(person.view.config.disks, Some(vec!["sda".into()]));
    person.keys(&[Key::Down, Key::Char(' ')]);
    assert_eq!(
        person.view.config.disks,
        Some(vec!["sda".into(), "sdc".into()])
    );
    person.keys(&[Key::Char(' '), Key::Up, Key::Char(' ')]);
    assert_eq!(person.view.config.disks, None);
    person
        .keys(&[Key::Down, Key::Down, Key::Down])
        .text("lab")
        .key(Key::Enter);
    assert_eq!(person.focused(), Some(Id::Nic(1)));
    person.key(Key::Char(' '));
    let config = &person.view.config;
    assert_eq!(config.interfaces, Some(vec!["eth0".into(), "eth2".into()]));
    let map = config.networks.first().unwrap();
    assert_eq!(
        (map.interface.as_deref(), map.network.as_str()),
        (Some("eth0"), "lab")
    );
}

#[test]
fn the_guest_is_described_and_what_is_wrong_stays_to_be_corrected() {
    let mut person = Person::new(sample::view());
    person
        .key(Key::F(4))
        .text("web1")
        .key(Key::Enter)
        .text("4X")
        .key(Key::Enter);
    assert_eq!(person.focused(), Some(Id::Memory));
    assert!(person.see().contains("found `4X`"));
    person
        .key(Key::Backspace)
        .text("G")
        .key(Key::Enter)
        .text("8")
        .key(Key::Enter);
    person
        .text("o=local os=/srv")
        .key(Key::Enter)
        .key(Key::Char(' '));
    person.keys(&[Key::Down, Key::Down, Key::Right]);
    let config = &person.view.config;
    assert_eq!(config.name.as_deref(), Some("web1"));
    assert_eq!(
        (config.memory_bytes, config.vcpus),
        (Some(4 << 30), Some(8))
    );
    assert_eq!(config.output.len(), 2);
    assert!(config.physical_topology);
    assert_eq!(config.post, Post::Poweroff);
}

#[test]
fn the_network_is_applied_as_a_whole() {
    let mut person = Person::new(sample::view());
    person.keys(&[Key::F(1), Key::Down, Key::Left, Key::Down]);
    person.text("192.0.2.9").key(Key::Enter);
    assert!(person.see().contains("expected ADDRESS/PREFIX"));
    person
        .text("/24")
        .key(Key::Enter)
        .text("192.0.2.1")
        .key(Key::Enter);
    person
        .text("192.0.2.2, 192.0.2.3")
        .key(Key::Enter)
        .text("7")
        .key(Key::Enter);
    // And a bond of the two others.
    person.keys(&[
        Key::F(1),
        Key::Left,
        Key::Down,
        Key::Right,
        Key::Down,
        Key::Down,
        Key::Right,
    ]);
    person.keys(&[
        Key::Down,
        Key::Down,
        Key::Char(' '),
        Key::Down,
        Key::Char(' '),
        Key::Down,
    ]);
    assert_eq!(person.focused(), Some(Id::Apply));
    person.key(Key::Enter);
    let [Command::Network(wanted)] = person.sent.as_slice() else {
        panic!("{:?}", person.sent);
    };
    assert_eq!(
        wanted.as_slice(),
        [
            InterfaceConfig {
                interface: Some("eth0".into()),
                address: Addressing::Static {
                    address: "192.0.2.9".parse().unwrap(),
                    prefix_len: 24,
                    gateway: "192.0.2.1".parse().ok(),
                    dns: vec!["192.0.2.2".parse().unwrap(), "192.0.2.3".parse().unwrap()],
                    hostname: None,
                },
                vlan: Some(7),
                bond: None,
            },
            InterfaceConfig {
                interface: Some("bond0".into()),
                address: Addressing::Dhcp,
                vlan: None,
                bond: Some(BondConfig {
                    ports: vec!["eth1".into(), "eth2".into()],
                    mode: "802.3ad".into(),
                    options: Vec::new(),
                }),
            },
        ]
    );
}

#[test]
fn a_job_is_cancelled_only_after_a_question() {
    let mut person = Person::new(running(JobState::Copying, Phase::Running));
    assert_eq!(person.model.tab, Tab::Job);
    person.keys(&[Key::Enter, Key::Enter]);
    assert!(person.sent.is_empty());
    person.keys(&[Key::Enter, Key::Left, Key::Enter]);
    assert!(matches!(person.sent.as_slice(), [Command::Cancel]));
    person.change(|view| *view = running(JobState::Failed, Phase::Ended));
    person.key(Key::Enter);
    assert!(matches!(person.sent.last(), Some(Command::Retry)));
    person.keys(&[Key::Right, Key::Enter, Key::Char('y')]);
    assert!(matches!(person.sent.last(), Some(Command::Poweroff)));
    person.key(Key::F(5));
    assert!(matches!(person.sent.last(), Some(Command::Rescan)));
}

#[test]
fn what_is_typed_faster_than_the_controller_answers_is_not_lost() {
    let mut model = Model::default();
    let view = sample::view();
    model.look(&view);
    let mut last = None;
    let typed = "\x1bOSname\r4G\r8\r";
    for key in Decoder::default().feed(typed.as_bytes()) {
        for effect in model.key(key, &view) {
            if let Effect::Send(Command::Configure(config)) = effect {
                last = Some(config);
            }
        }
        // The controller is busy: the view stays as it was.
        model.look(&view);
    }
    let config = last.unwrap();
    assert_eq!(config.name.as_deref(), Some("name"));
    assert_eq!(
        (config.memory_bytes, config.vcpus),
        (Some(4 << 30), Some(8))
    );
    // Another console's change comes through.
    let mut other = view.clone();
    other.config = *config;
    model.look(&other);
    other.config.name = Some("other".into());
    model.look(&other);
    assert_eq!(model.config.name.as_deref(), Some("other"));
}

#[test]
fn secrets_are_never_on_a_screen_that_was_left() {
    let mut person = Person::new(sample::view());
    person.text(&join().to_string()).key(Key::Enter);
    assert!(!person.see().contains("v2v1."));
    person.key(Key::Up).key(Key::Backspace).key(Key::Enter);
    assert_eq!(person.view.config.join, None);
    person
        .key(Key::F(2))
        .key(Key::Down)
        .text(&Secret([7; 16]).code())
        .key(Key::Enter);
    assert!(person.see().contains("(typed)"), "{}", person.see());
    assert!(!person.see().contains(&Secret([7; 16]).code()));
}

#[test]
fn any_size_and_any_keys_are_survived() {
    let mut hostile = running(JobState::Copying, Phase::Running);
    hostile.network.interfaces = (0..200)
        .map(|n| InterfaceView {
            name: format!("e\u{1b}[2J{n}日本"),
            link: true,
            addresses: vec!["x".repeat(300)],
        })
        .collect();
    hostile.status = Some(JobStatus {
        state: 99,
        done_bytes: u64::MAX,
        total_bytes: 1,
        rate_bytes: u64::MAX,
        eta_seconds: u64::MAX,
        wire_bytes: u64::MAX,
        bad_bytes: u64::MAX,
        text: "é\n\t\u{0}".repeat(100),
        error: "\u{1b}]0;x\u{7}".repeat(100),
    });
    hostile.log = Arc::new(
        (0..1000)
            .map(|n| format!("line {n}\u{9b}2J"))
            .collect::<VecDeque<_>>(),
    );
    for view in [hostile, sample::view(), View::default()] {
        let mut person = Person::new(view);
        let mut state = 1u32;
        for step in 0..3000 {
            // xorshift32
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let all = [
                Key::Tab,
                Key::BackTab,
                Key::Up,
                Key::Down,
                Key::Left,
                Key::Right,
                Key::Enter,
                Key::Char(' '),
                Key::Char('日'),
                Key::Char('1'),
                Key::Backspace,
                Key::Delete,
                Key::Esc,
                Key::Home,
                Key::End,
                Key::PageUp,
                Key::PageDown,
                Key::F(1),
                Key::F(2),
                Key::F(3),
                Key::F(4),
                Key::F(6),
                Key::F(7),
                Key::F(9),
                Key::Ctrl('u'),
                Key::Char('n'),
            ];
            person.key(all[state as usize % all.len()]);
            if step % 50 == 0 {
                for (width, height) in [(80, 24), (20, 8), (1, 1), (200, 60), (33, 7)] {
                    person.screen(width, height);
                }
            }
        }
    }
}

/// What the other end of a pseudo terminal saw.
struct Line {
    end: File,
    seen: Arc<Mutex<Vec<u8>>>,
    path: std::path::PathBuf,
}

impl Line {
    fn new() -> Self {
        let end = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&end).unwrap();
        rustix::pty::unlockpt(&end).unwrap();
        let name = rustix::pty::ptsname(&end, Vec::new()).unwrap();
        let end = File::from(end);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (end.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Not there yet, or gone for a moment: EIO.
            loop {
                match from.read(&mut buffer) {
                    Ok(len) => into.lock().unwrap().extend(&buffer[..len]),
                    Err(_) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Self {
            end,
            seen,
            path: name.into_string().unwrap().into(),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    fn expect(&self, text: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.text().contains(text) {
            assert!(
                Instant::now() < until,
                "`{text}` never came in {:?}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.end.write_all(bytes).unwrap();
    }

    fn clear(&self) -> usize {
        std::mem::take(&mut *self.seen.lock().unwrap()).len()
    }
}

fn wait_for(received: &mut mpsc::UnboundedReceiver<Command>) -> Command {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match received.try_recv() {
            Ok(command) => return command,
            Err(_) => assert!(Instant::now() < until, "no command came"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_scripted_person_drives_it_over_a_serial_line() {
    let mut line = Line::new();
    let (views, view) = watch::channel(sample::view());
    let (commands, mut received) = mpsc::unbounded_channel();
    let console = Console {
        path: line.path.clone(),
        kind: ConsoleKind::Serial,
    };
    let screens = run(vec![console], &Handle { view, commands }).unwrap();
    line.expect("v2v p2v-agent ");
    // It asks for the size; this terminal has 100 columns, and says so late.
    line.expect("\x1b[6n");
    line.send(b"\x1b[30;100R");
    line.expect("\x1b[30;1H");
    line.clear();
    line.send(format!("\x1bOQ{}\r", join()).as_bytes());
    let Command::Configure(config) = wait_for(&mut received) else {
        panic!("expected a configuration");
    };
    assert_eq!(config.join, Some(join()));
    views.send_modify(|view| view.config = *config);
    line.expect("join string for 192.0.2.7:7440");
    line.clear();
    line.send(b"\x1b[17~");
    line.expect("[ Start ]");
    line.send(b"\r");
    assert!(matches!(wait_for(&mut received), Command::Start));
    views.send_modify(|view| *view = running(JobState::Copying, Phase::Running));
    line.expect("Cancel");
    line.clear();
    // Fast changes: few and small drawings.
    let since = Instant::now();
    for step in 0..100u64 {
        views.send_modify(|view| view.status.as_mut().unwrap().wire_bytes = step << 30);
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    let frames = line.text().matches('H').count() as u128;
    let most = since.elapsed().as_millis() / 250 + 1;
    assert!(
        frames >= 2 && frames <= most,
        "{frames} of {most}: {:?}",
        line.text()
    );
    assert!(line.clear() < 40 * 8, "too much is drawn");
    // Ctrl-L draws everything.
    line.send(b"\x0c");
    line.expect("v2v p2v-agent ");
    screens.stop();
    line.expect("\x1b[?25h");
}

#[test]
fn a_shell_runs_on_request_with_the_console_as_its_terminal() {
    if !testkit::require_tool("setsid") {
        return;
    }
    let mut line = Line::new();
    let (_views, view) = watch::channel(sample::view());
    let (commands, _received) = mpsc::unbounded_channel();
    let console = Console {
        path: line.path.clone(),
        kind: ConsoleKind::Screen,
    };
    let screens = run(vec![console], &Handle { view, commands }).unwrap();
    line.expect("[F2 Server]");
    // The kernel's console must not go dark.
    line.expect("\x1b[9;0]\x1b[14;0]");
    line.clear();
    line.send(b"\x1b[21~");
    line.expect("goes back.");
    line.expect("p2v# ");
    line.send(b"echo tty=$(tty) term=$TERM; : </dev/tty && echo controlling $((40+2))\n");
    line.expect(&format!("tty={} term=linux", line.path.display()));
    line.expect("controlling 42");
    line.clear();
    line.send(b"exit\n");
    line.expect("[F2 Server]");
    // A second one is ended with the screens.
    line.clear();
    line.send(b"\x1b[21~");
    line.expect("p2v# ");
    let since = Instant::now();
    screens.stop();
    assert!(since.elapsed() < STOP_TIMEOUT);
}

#[test]
fn two_consoles_share_the_state_and_not_the_focus() {
    let (mut one, two) = (Line::new(), Line::new());
    let (views, view) = watch::channel(sample::view());
    let (commands, mut received) = mpsc::unbounded_channel();
    let console = |line: &Line| Console {
        path: line.path.clone(),
        kind: ConsoleKind::Screen,
    };
    let absent = Console {
        path: "/nowhere/tty9".into(),
        kind: ConsoleKind::Serial,
    };
    let consoles = vec![absent, console(&one), console(&two)];
    let screens = run(consoles, &Handle { view, commands }).unwrap();
    one.expect("[F2 Server]");
    two.expect("[F2 Server]");
    one.send(b"\x1b3");
    one.expect("[F3 Disks]");
    one.send(b" ");
    let Command::Configure(config) = wait_for(&mut received) else {
        panic!("expected a configuration");
    };
    assert_eq!(config.disks, Some(vec!["sdb".into()]));
    assert!(!two.text().contains("[F3 Disks]"));
    views.send_modify(|view| {
        view.config = Config::default();
        view.network = NetworkView::default();
    });
    two.expect("No interface has an address yet");
    // The controller ends: so do the screens.
    drop(views);
    screens.wait_at_most(Duration::from_secs(5));
}

impl Screens {
    fn wait_at_most(self, time: Duration) {
        let until = Instant::now() + time;
        while self.threads.iter().filter(|t| !t.is_finished()).count() > 1 {
            assert!(Instant::now() < until, "the screens stayed");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
