//! This test binary as a second process, to be killed or to run under another environment.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{convert, local, plan, prepare, sample, write_disks};
use crate::{TargetKind, TargetOptions};

const ROLE: &str = "V2V_TARGET_TEST_ROLE";
const DIR: &str = "V2V_TARGET_TEST_DIR";

/// A command that runs `role` of this binary in `dir`.
pub(super) fn command(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([
        "--exact",
        "tests::child::second_process",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(ROLE, role).env(DIR, dir);
    command
}

/// Starts `role` and waits until it says that it is ready.
pub(super) fn start(role: &str, dir: &Path) -> Child {
    let mut child = command(role, dir).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(
        lines
            .map(Result::unwrap)
            .any(|line| line.contains("child is ready")),
        "the child did not get ready"
    );
    child
}

/// Not a test of its own: does what the parent asks, and nothing when there is no parent.
#[test]
fn second_process() {
    let Ok(role) = env::var(ROLE) else { return };
    let dir = env::var_os(DIR).unwrap();
    let dir = Path::new(&dir);
    let sample = sample();
    match role.as_str() {
        "copy" => {
            let mut target = prepare(&local(dir), &sample.name).unwrap();
            target.check(&plan(&sample.machine)).unwrap();
            write_disks(target.as_mut(), &sample.machine);
            println!("child is ready");
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        "qemu-boot" => {
            let kind = TargetKind::Qemu {
                dir: dir.to_owned(),
                boot: true,
            };
            let placed = convert(&TargetOptions::new(kind, ""), &sample).unwrap();
            println!("notes: {:?}", placed.notes);
        }
        "null" => {
            let options = TargetOptions::new(TargetKind::Null, "");
            let mut target = prepare(&options, &sample.name).unwrap();
            let mut second = prepare(&options, &sample.name).unwrap();
            assert!(target.scratch_dir().starts_with(dir) && second.scratch_dir().starts_with(dir));
            second.check(&plan(&sample.machine)).unwrap();
            write_disks(target.as_mut(), &sample.machine);
            let placed = target
                .finalise(&super::finished(&sample.machine, &sample.caps))
                .unwrap();
            println!("files: {:?} notes: {:?}", placed.files, placed.notes);
        }
        other => panic!("no such role: {other}"),
    }
}
