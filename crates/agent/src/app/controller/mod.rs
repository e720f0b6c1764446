//! Owns the state, publishes it, obeys commands, and walks by itself where nobody is to be asked.
//!
//! ```text
//! Detecting ──found──> Setup ──Start──> Running ──job ended, refused──> Ended ──post, fail──> the end
//!                        ^  unattended: network up, server answers │        │
//!                        └────────── cancelled before a job ───────┘ <──────┘ retry
//! ```

mod setup;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use wire::inventory::Inventory;
use wire::session::{JobState, JobStatus, LogLine, UserAction};

use super::running::{Running, Wiring};
use super::{Command, Connection, Handle, LOG_LINES, NetworkView, Phase, View};
use crate::config::{Config, InterfaceConfig, Post};
use crate::disks::DiskSpec;
use crate::session::{self, Answer, Event, SessionError};
use status::{describe, is_final};

/// How often the interfaces are looked at.
const NETWORK_EVERY: Duration = Duration::from_secs(3);
/// Between lines of progress in the plain log.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Longest line of the log, in bytes; what a server or a device sends may be longer.
const MAX_LINE: usize = 2000;

/// The machine that the agent runs on.
pub trait Host: Send + Sync + 'static {
    /// Finds the hardware; takes seconds.
    fn detect(&self) -> Detected;
    /// Sets up the network; blocks until addresses are there or cannot be had.
    fn configure(&self, interfaces: &[InterfaceConfig]) -> Result<(), String>;
    /// How the network is.
    fn network(&self) -> NetworkView;
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Detected {
    /// For the server.
    pub inventory: Inventory,
    /// How each of its disks is opened, in the same order.
    pub disks: Vec<DiskSpec>,
}

/// Where log lines go.
pub(crate) type Print = Arc<dyn Fn(&str) + Send + Sync>;

/// How the controller is used.
#[derive(Clone, Default)]
pub struct AppOptions {
    /// Set up the network before anything else.
    pub network: bool,
    /// End when the job has, whatever `post` and `fail` say.
    pub end_with_job: bool,
    /// Is given every line of the log, and progress now and then.
    pub print: Option<Print>,
    /// First pause between two attempts to connect; `None`: half a second.
    pub first_pause: Option<Duration>,
}

impl std::fmt::Debug for AppOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppOptions").finish_non_exhaustive()
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What the machine is to do now.
    pub post: Post,
    /// The job is done.
    pub success: bool,
    /// Why it is not.
    pub error: Option<String>,
}

/// What background work reports.
pub(super) enum Report {
    Detected(Box<Detected>),
    Configured(Result<(), String>),
    Network(NetworkView),
    Tested(Result<Answer, (String, bool)>),
    Ended(Result<(), SessionError>),
    /// An unattended agent tries again what failed.
    Again,
}

/// The controller; [`Controller::run`] it.
pub struct Controller {
    view: View,
    publish: watch::Sender<View>,
    commands: mpsc::UnboundedReceiver<Command>,
    host: Arc<dyn Host>,
    options: AppOptions,
    specs: Vec<DiskSpec>,
    reports: mpsc::UnboundedSender<Report>,
    reported: mpsc::UnboundedReceiver<Report>,
    events: mpsc::UnboundedSender<Event>,
    happened: mpsc::UnboundedReceiver<Event>,
    lines: mpsc::UnboundedSender<String>,
    logged: mpsc::UnboundedReceiver<String>,
    running: Option<Running>,
    begun: Instant,
    printed: Instant,
    /// Unattended: the server has answered.
    tested: bool,
    testing: bool,
    end: Option<End>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// A controller, and what screens need of it.
    pub fn new(config: Config, host: Arc<dyn Host>, options: AppOptions) -> (Self, Handle) {
        let (publish, view) = watch::channel(View::default());
        let (sender, commands) = mpsc::unbounded_channel();
        let (reports, reported) = mpsc::unbounded_channel();
        let (events, happened) = mpsc::unbounded_channel();
        let (lines, logged) = mpsc::unbounded_channel();
        let controller = Self {
            view: View {
                config,
                ..View::default()
            },
            publish,
            commands,
            host,
            options,
            specs: Vec::new(),
            reports,
            reported,
            events,
            happened,
            lines,
            logged,
            running: None,
            begun: Instant::now(),
            printed: Instant::now(),
            tested: false,
            testing: false,
            end: None,
        };
        let handle = Handle {
            view,
            commands: sender,
        };
        (controller, handle)
    }

    /// Runs until the machine is to do something else.
    pub async fn run(mut self) -> End {
        for problem in self.view.config.problems.clone() {
            self.log(format!("kernel command line: {problem}"));
        }
        if self.options.network {
            self.configure_network();
        }
        self.detect();
        let mut look = tokio::time::interval(NETWORK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.publish.send_replace(self.view.clone());
            if let Some(end) = self.end.take() {
                return end;
            }
            tokio::select! {
                Some(command) = self.commands.recv() => self.command(command),
                Some(report) = self.reported.recv() => self.report(report),
                Some(event) = self.happened.recv() => self.event(event),
                Some(line) = self.logged.recv() => self.log(line),
                _ = look.tick() => self.look_at_network(),
            }
            self.walk();
        }
    }

    /// Unattended: the next step, if it can be taken.
    fn walk(&mut self) {
        let config = &self.view.config;
        if self.view.phase != Phase::Setup || !config.unattended || self.view.network.busy {
            return;
        }
        if let Err(missing) = config.target() {
            self.fail(missing);
        } else if self.tested || config.skip_test_connection {
            self.start();
        } else if !self.testing {
            self.test();
        }
    }

    fn command(&mut self, command: Command) {
        self.view.error = None;
        match command {
            Command::Configure(config) if self.view.phase != Phase::Running => {
                if config.addresses() != self.view.config.addresses() {
                    self.view.shown_fingerprint = None;
                }
                self.view.config = *config;
            }
            Command::Configure(_) => self.view.error = Some("the job is under way".to_owned()),
            Command::Network(interfaces) => {
                self.view.config.network = interfaces;
                self.configure_network();
            }
            Command::TestConnection => self.test(),
            Command::Start => self.start(),
            Command::Cancel => self.cancel(),
            Command::Retry => match &self.running {
                Some(running) => running.act(UserAction::Retry),
                None => self.start(),
            },
            Command::Rescan if self.running.is_none() => self.detect(),
            Command::Rescan => self.view.error = Some("the job is under way".to_owned()),
            Command::Poweroff => self.leave(Post::Poweroff, false, None),
            Command::Reboot => self.leave(Post::Reboot, false, None),
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Detected(detected) => self.detected(*detected),
            Report::Configured(result) => {
                self.view.network.busy = false;
                self.view.network.error = result.err();
                if let Some(error) = self.view.network.error.clone() {
                    self.log(format!("network: {error}"));
                    if self.view.config.unattended {
                        self.again();
                    }
                }
                self.look_at_network();
            }
            Report::Network(found) => self.view.network.interfaces = found.interfaces,
            Report::Tested(result) => self.was_tested(result),
            Report::Ended(result) => self.session_ended(result),
            Report::Again => {
                self.testing = false;
                if self.view.network.error.is_some() && self.options.network {
                    self.configure_network();
                }
            }
        }
    }

    fn start(&mut self) {
        if self.running.is_some() || self.view.phase == Phase::Detecting {
            return;
        }
        let Some(inventory) = self.view.inventory.clone() else {
            return;
        };
        let (reports, events) = (self.reports.clone(), self.events.clone());
        let wiring = Wiring {
            reports,
            events,
            log: self.lines.clone(),
            first_pause: self.options.first_pause.unwrap_or(session::FIRST_PAUSE),
        };
        match Running::start(&self.view.config, inventory, &self.specs, wiring) {
            Ok(running) => {
                self.running = Some(running);
                self.view.phase = Phase::Running;
                self.view.error = None;
                self.view.status = None;
                self.view.job = None;
            }
            Err(error) if self.view.config.unattended => self.fail(error),
            Err(error) => {
                self.log(error.clone());
                self.view.error = Some(error);
            }
        }
    }

    fn cancel(&mut self) {
        match (&self.running, self.view.job) {
            (Some(running), Some(_)) => running.act(UserAction::Cancel),
            (Some(_), None) => {
                // Nobody knows of it yet.
                self.running = None;
                self.view.connection = Connection::Idle;
                self.view.config.unattended = false;
                self.view.phase = Phase::Setup;
                if self.options.end_with_job {
                    self.leave(Post::Stay, false, Some("given up".to_owned()));
                }
            }
            (None, _) => self.view.config.unattended = false,
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connecting(why) => {
                let shown = Connection::Connecting(why.clone());
                if let Some(why) = why.filter(|_| self.view.connection != shown) {
                    self.log(format!("connecting again: {why}"));
                }
                // The reason stays on the screen while the next attempt is made.
                let stays = matches!(self.view.connection, Connection::Connecting(Some(_)));
                if shown != Connection::Connecting(None) || !stays {
                    self.view.connection = shown;
                }
            }
            Event::Up(address) => {
                self.log(format!("connected to {address}"));
                self.view.connection = Connection::Up(address);
            }
            Event::Job { job, resumed } => {
                let how = if resumed { ", which goes on" } else { "" };
                self.log(format!("this is job {job}{how}"));
                self.view.job = Some(job);
            }
            Event::Status(status) => self.status(status),
        }
    }

    fn status(&mut self, status: JobStatus) {
        let before = self.view.status.as_ref().map(JobStatus::state);
        let state = status.state();
        if before != Some(state) {
            self.log(describe(&status));
        } else if self.printed.elapsed() >= PROGRESS_EVERY {
            self.print(&describe(&status));
        }
        self.view.status = Some(status.clone());
        if !is_final(state) {
            // A failed job may be taken up again.
            if self.running.is_some() {
                self.view.phase = Phase::Running;
            }
            return;
        }
        if before == Some(state) {
            return;
        }
        self.view.phase = Phase::Ended;
        let success = matches!(state, JobState::Done | JobState::DoneWithErrors);
        let error = (!success).then(|| match status.error.as_str() {
            "" => describe(&status),
            error => error.to_owned(),
        });
        self.view.error.clone_from(&error);
        self.ended(success, error);
    }

    fn session_ended(&mut self, result: Result<(), SessionError>) {
        if self.running.take().is_none() {
            return;
        }
        self.view.connection = Connection::Idle;
        if let Err(error) = result
            && self.view.phase == Phase::Running
        {
            self.fail(error.to_string());
        }
    }

    fn fail(&mut self, error: String) {
        self.log(error.clone());
        self.view.error = Some(error.clone());
        self.view.phase = Phase::Ended;
        self.ended(false, Some(error));
    }

    fn ended(&mut self, success: bool, error: Option<String>) {
        let config = &self.view.config;
        let post = if success { config.post } else { config.fail };
        if self.options.end_with_job || post != Post::Stay {
            self.leave(post, success, error);
        }
    }

    fn leave(&mut self, post: Post, success: bool, error: Option<String>) {
        self.end = Some(End {
            post,
            success,
            error,
        });
    }

    fn log(&mut self, line: String) {
        let mut line = line.replace(['\n', '\r'], " ");
        line.truncate(line.floor_char_boundary(MAX_LINE));
        self.print(&line);
        let uptime = self.begun.elapsed().as_millis();
        if let Some(running) = &self.running {
            running.line(LogLine {
                uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
                text: line.clone(),
            });
        }
        let log = Arc::make_mut(&mut self.view.log);
        while log.len() >= LOG_LINES {
            log.pop_front();
        }
        log.push_back(line);
    }

    fn print(&mut self, line: &str) {
        self.printed = Instant::now();
        if let Some(print) = &self.options.print {
            print(line);
        }
    }
}
