//! A machine whose disk is encrypted arrives when the administrator gives the key at the server with his yes; without it the
//! job fails and says what to do. The key is written nowhere.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use testkit::agent::AgentSetup;
use testkit::boot::Bus;
use testkit::guest::matrix;
use testkit::server::{ConverterServer, TokenWish};
use v2v_tests::assert_image_clean;
use v2v_tests::p2v::{JOB, SOON, assert_proved, folder, image, note};

const GUEST: &str = "grub-luks";
/// What is larger is a disk.
const DISK: u64 = 64 << 20;

#[test]
fn the_key_is_given_at_the_server() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let built = matrix::build(matrix::by_name(GUEST).context("no such guest")?)?;
    let passphrase = built.guest.passphrase().context("no passphrase")?;
    let [disk] = built.disks.as_slice() else {
        anyhow::bail!("{} disks", built.disks.len());
    };
    let dir = folder()?;
    let mut server = ConverterServer::start(dir.path(), &[])?;
    let join = server.token(&TokenWish::default())?;
    let setup = AgentSetup::new(&join, disk).name(GUEST).machine(7);
    let mut agent = setup.start()?;
    let id = server.wait_jobs(1, SOON)?;
    server.wait_state(id, &["waiting-for-approval"], SOON)?;
    server.approve(id, &[])?;
    let told = agent.wait_failed(JOB)?;
    ensure!(told.contains("--key"), "the user is not told: {told}");
    let failed = server.wait_state(id, &["failed"], SOON)?;
    let text = failed["job"]["text"].as_str().unwrap_or_default();
    ensure!(text.contains("--key"), "the user is not told: {text}");

    let key = format!("all:key:{passphrase}");
    server.admin("jobs", &["approve", &id.to_string(), "--key", &key])?;
    // Nobody is at the machine: it was started again.
    agent = setup.start()?;
    agent.wait_done(JOB)?;
    let done = server.wait_state(id, &["done"], SOON)?;
    assert_proved(&done)?;
    assert_image_clean(&image(&server, GUEST))?;
    let written = holds(dir.path(), passphrase.as_bytes(), server.out())?;
    ensure!(written.is_none(), "the key is in {written:?}");
    ensure!(!server.said().contains(passphrase), "the server tells it");
    // Its NIC is the one of the machine that runs this test: the guest's own address is no matter here.
    let login = matrix::reach_login(&built, server.out(), Bus::Virtio)?;
    note(&format!(
        "{GUEST}: login after {:.1} s",
        login.as_secs_f64()
    ));
    server.stop()
}

/// The first file below `folder` that holds `secret`; what lies in `but` is the guest's own.
fn holds(folder: &Path, secret: &[u8], but: &Path) -> Result<Option<String>> {
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() && path != but {
                left.push(path);
            } else if kind.is_file() && entry.metadata()?.len() < DISK {
                let bytes = fs::read(&path)?;
                if bytes.windows(secret.len()).any(|part| part == secret) {
                    return Ok(Some(path.display().to_string()));
                }
            }
        }
    }
    Ok(None)
}
