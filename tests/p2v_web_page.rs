//! The web page in headless Chromium: an administrator sees the machine, approves it, watches it arrive; on a phone, and
//! without JavaScript for reading. The screenshots are in target/screenshots.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::agent::AgentSetup;
use testkit::browser::{Browser, DESKTOP, PHONE, Window};
use testkit::guest::{Sample, sample};
use testkit::server::{ConverterServer, TokenWish};
use v2v_tests::assert_image_clean;
use v2v_tests::p2v::{JOB, SOON, assert_proved, folder, image};

const SHOWN: Duration = Duration::from_secs(60);

fn shoot(browser: &Browser, name: &str) -> Result<()> {
    let path = testkit::target_dir().join(format!("screenshots/web-{name}.png"));
    browser.screenshot(&path)
}

#[test]
fn a_job_is_approved_and_watched_in_the_browser() -> Result<()> {
    if !testkit::require_tool("chromedriver") {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let dir = folder()?;
    // Slow enough that there is something to watch.
    let mut server = ConverterServer::start(dir.path(), &["--bandwidth-per-job", "24M"])?;
    let url = server.web()?.to_owned();
    let browser = Browser::start(DESKTOP)?;
    browser.open(&url)?;
    browser.wait_text(&["No machine has come yet"], false, SHOWN)?;
    shoot(&browser, "empty")?;

    let join = server.token(&TokenWish::default())?;
    let mut agent = AgentSetup::new(&join, &guest.raw)
        .name("watched")
        .machine(5)
        .start()?;
    let id = server.wait_jobs(1, SOON)?;
    server.wait_state(id, &["waiting-for-approval"], SOON)?;
    // The page notices by itself.
    browser.wait_text(&["waiting for approval"], false, SHOWN)?;
    shoot(&browser, "list")?;
    browser.click("watched")?;
    browser.wait_text(&["Approve this job?"], false, SHOWN)?;
    shoot(&browser, "approve")?;
    browser.click("Approve and start")?;
    browser.wait_text(&["inspecting", "converting", "copying"], false, SHOWN)?;
    browser.wait_text(&["copying"], false, JOB)?;
    shoot(&browser, "copying")?;

    let phone = Browser::start(Window {
        scripts: false,
        ..PHONE
    })?;
    phone.open(&url)?;
    phone.wait_text(&["watched"], false, SHOWN)?;
    shoot(&phone, "phone-list")?;
    ensure!(
        !phone.overflows()?,
        "a phone has to scroll sideways in the list"
    );
    phone.click("watched")?;
    phone.wait_text(&["Disks"], false, SHOWN)?;
    shoot(&phone, "phone-job")?;
    ensure!(
        !phone.overflows()?,
        "a phone has to scroll sideways in a job"
    );

    agent.wait_done(JOB)?;
    let done = server.wait_state(id, &["done"], SOON)?;
    browser.wait_text(&["In its place"], false, SHOWN)?;
    shoot(&browser, "done")?;
    // Without scripts, the page shows it when it is loaded again.
    phone.wait_text(&["In its place"], true, SHOWN)?;
    shoot(&phone, "phone-done")?;
    browser.wait_text(&["Changes in the guest"], false, SHOWN)?;
    browser.wait_text(&["Proof"], false, SHOWN)?;
    assert_proved(&done)?;
    assert_image_clean(&image(&server, "watched"))?;
    drop((browser, phone));

    // Without the key in the address, nothing is shown.
    let stranger = Browser::start(DESKTOP)?;
    let bare = url.split('?').next().unwrap_or(&url);
    stranger.open(bare)?;
    let shown = stranger.text()?;
    ensure!(!shown.contains("watched"), "{shown}");
    shoot(&stranger, "stranger")?;
    server.stop()
}
