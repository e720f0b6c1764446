//! The same by hand: the ISO as it is, on a USB stick in a machine with parallel ATA; somebody at the serial console types
//! in where the server is, looks at the summary, presses Start and watches.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use testkit::guest::{Sample, sample};
use testkit::physical::{Medium, PhysicalMachine, RunningMachine, Storage};
use testkit::terminal::Terminal;
use v2v_tests::assert_image_clean;
use v2v_tests::p2v::{ISO_BOOT, IsoRig, JOB, SOON, assert_proved, image, note};

/// Function keys as Esc and a digit, which every serial console has.
const SERVER: &str = "\u{1b}2";
const GUEST: &str = "\u{1b}4";
const START: &str = "\u{1b}6";
const LOG: &str = "\u{1b}9";

/// Somebody at the console.
struct Hand<'a> {
    machine: &'a mut RunningMachine,
    terminal: Terminal,
}

impl Hand<'_> {
    fn sees(&mut self, text: &str, timeout: std::time::Duration) -> Result<()> {
        let seen = self
            .terminal
            .wait_for(&mut self.machine.console, text, timeout);
        seen.with_context(|| format!("looking for {text:?}"))
    }

    fn types(&mut self, text: &str) -> Result<()> {
        self.machine.console.send(text)
    }

    /// What the console shows, kept to be looked at.
    fn keeps(&mut self, name: &str) -> Result<String> {
        let text = self.terminal.look(&mut self.machine.console)?;
        let folder = testkit::target_dir().join("screenshots");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{name}.txt")), &text)?;
        Ok(text)
    }
}

#[test]
fn somebody_at_the_serial_console_sends_the_machine() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let mut rig = IsoRig::new(&[], None)?;
    let mut machine = PhysicalMachine::new(&guest.raw, Storage::Ide)
        .medium(Medium::UsbStick(rig.iso.clone()))
        .start()?;
    let join = rig.join.clone();
    let mut hand = Hand {
        machine: &mut machine,
        terminal: Terminal::default(),
    };
    hand.sees("v2v p2v-agent", ISO_BOOT)?;
    hand.sees("set-up", SOON)?;
    note(&format!(
        "set-up on the serial console after {:.1} s",
        hand.machine.console.elapsed().as_secs_f64()
    ));

    hand.types(SERVER)?;
    hand.sees("Server or join", SOON)?;
    hand.types(&format!("{join}\r"))?;
    hand.sees("join string for 10.0.2.2:", SOON)?;
    hand.keeps("serial-server")?;
    hand.types(GUEST)?;
    hand.sees("Name", SOON)?;
    // The first field: the name that the agent proposes goes, ours comes.
    hand.types(&"\u{8}".repeat(40))?;
    hand.types("by-hand\r")?;
    hand.keeps("serial-guest")?;

    hand.types(START)?;
    hand.sees("> [ Start ]", SOON)?;
    let summary = hand.keeps("serial-start")?;
    ensure!(!summary.contains("Missing"), "{summary}");
    // The stick may have come before it: then it is sdb.
    ensure!(summary.contains(" (6.0 GiB in all)"), "{summary}");
    ensure!(summary.contains("by-hand"), "{summary}");
    hand.types("\r")?;
    hand.sees("waiting for approval", SOON)?;
    let id = rig.server.wait_jobs(1, SOON)?;
    let waiting = rig.server.wait_state(id, &["waiting-for-approval"], SOON)?;
    ensure!(waiting["job"]["name"] == "by-hand", "{}", waiting["job"]);
    hand.machine
        .screenshot(&testkit::target_dir().join("screenshots/screen-job.png"))?;
    rig.server.approve(id, &[])?;
    hand.sees("running", SOON)?;
    hand.sees(" %", JOB)?;
    hand.keeps("serial-progress")?;
    hand.types(LOG)?;
    hand.keeps("serial-log")?;
    hand.sees("ended", JOB)?;
    let last = hand.keeps("serial-ended")?;
    let done = rig.server.wait_state(id, &["done"], SOON)?;
    ensure!(!last.to_lowercase().contains("failed"), "{last}");
    assert_proved(&done)?;
    assert_image_clean(&image(&rig.server, "by-hand"))?;
    ensure!(Path::new(&rig.iso).is_file());
    ensure!(last.contains("> [ Power off ]"), "{last}");
    hand.types("\r")?;
    hand.sees("Power this machine off?", SOON)?;
    hand.types("y")?;
    machine.console.wait_off(SOON)?;
    rig.server.stop()
}
