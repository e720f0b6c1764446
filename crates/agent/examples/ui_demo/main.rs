//! The screens on this terminal, with a machine and a server that do not exist: `cargo run -p agent --example ui_demo`.
//! Ends by `Power off` or `Reboot`. With `serial` as the only word it is drawn as on a serial line.

mod sample;

use std::sync::Arc;
use std::time::Duration;

use agent::app::{Command, Connection, Handle, InterfaceView, NetworkView, Phase, View};
use agent::ui::{self, Console, ConsoleKind};
use tokio::sync::{mpsc, watch};
use wire::join::Fingerprint;
use wire::session::{JobState, JobStatus};

const TOTAL: u64 = 40 << 30;
const RATE: u64 = 900 << 20;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let serial = std::env::args().nth(1).is_some_and(|word| word == "serial");
    let (views, view) = watch::channel(sample::view());
    let (commands, received) = mpsc::unbounded_channel();
    let console = Console {
        path: "/dev/tty".into(),
        kind: if serial {
            ConsoleKind::Serial
        } else {
            ConsoleKind::Screen
        },
    };
    let screens = ui::run(vec![console], &Handle { view, commands })?;
    control(views, received).await;
    screens.stop();
    Ok(())
}

/// Does what the commands say until the machine would be off.
async fn control(views: watch::Sender<View>, mut received: mpsc::UnboundedReceiver<Command>) {
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            command = received.recv() => match command {
                None | Some(Command::Poweroff | Command::Reboot) => return,
                Some(command) => views.send_modify(|view| obey(view, command)),
            },
            _ = tick.tick() => {
                views.send_if_modified(advance);
            }
        }
    }
}

fn obey(view: &mut View, command: Command) {
    Arc::make_mut(&mut view.log).push_back(format!("{command:?}").chars().take(200).collect());
    match command {
        Command::Configure(config) => view.config = *config,
        Command::Network(network) => {
            view.config.network = network;
            view.network.error = Some("eth1: no link".into());
        }
        Command::TestConnection => {
            view.shown_fingerprint = Some(Fingerprint([0xa5; 32]));
            view.connection = Connection::Up("192.0.2.7:7440".into());
        }
        Command::Start | Command::Retry => {
            view.phase = Phase::Running;
            view.job = Some(12);
            view.status = Some(JobStatus {
                state: JobState::Copying.into(),
                text: "copying sda to /srv/guests/web1-sda.qcow2".into(),
                total_bytes: TOTAL,
                rate_bytes: RATE,
                bad_bytes: 4096,
                ..JobStatus::default()
            });
        }
        Command::Cancel => end(view, JobState::Cancelled),
        Command::Rescan => view.error = Some("nothing new was found".into()),
        Command::Poweroff | Command::Reboot => {}
    }
}

fn end(view: &mut View, state: JobState) {
    view.phase = Phase::Ended;
    if let Some(status) = &mut view.status {
        status.set_state(state);
        status.text = "the guest is defined as web1".into();
    }
}

fn advance(view: &mut View) -> bool {
    if view.phase != Phase::Running {
        return false;
    }
    let Some(status) = &mut view.status else {
        return false;
    };
    status.done_bytes = (status.done_bytes + RATE / 4).min(TOTAL);
    status.wire_bytes = status.done_bytes / 2;
    status.eta_seconds = (TOTAL - status.done_bytes) / RATE;
    let line = format!("copied {} MiB", status.done_bytes >> 20);
    let finished = status.done_bytes == TOTAL;
    Arc::make_mut(&mut view.log).push_back(line);
    if finished {
        end(view, JobState::DoneWithErrors);
    }
    true
}
