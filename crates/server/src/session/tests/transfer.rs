//! Transfers that must come out right, whatever happens on the way.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::Instant;

use image::{ErrorKind, ExtentKind};
use wire::chunk::Compress;
use wire::session::{JobState, JobStatus};

use super::*;

#[test]
fn reads_at_random_and_a_whole_copy_give_the_same_bytes() {
    let disks = vec![mixed(9, 1), mixed(3, 2)];
    let mut agent = FakeAgent::new(disks.clone());
    agent.compress = Compress::Zstd;
    let setup = Setup::new(agent);
    let _running = setup.start();
    let sources = setup.machine.sources();
    let mut at = 7;
    for _ in 0..60 {
        at = (at * 7919 + 13) % (disks[0].len() - 5000);
        let mut buf = vec![1; at % 5000 + 1];
        sources[0].read_at(&mut buf, at as u64).unwrap();
        assert!(buf[..] == disks[0][at..at + buf.len()], "at {at}");
    }
    for (source, disk) in sources.iter().zip(&disks) {
        assert!(receive(source.as_ref()).unwrap() == *disk);
    }
    let progress = setup.machine.progress();
    let total: u64 = disks.iter().map(|disk| disk.len() as u64).sum();
    // The copy leaves out what the extents say is zero, the pull does not.
    eventually("all is there", || {
        setup.machine.progress().done_bytes == total
    });
    assert_eq!(progress.total_bytes, total);
    assert!(progress.first_byte_ms > 0);
    assert!(progress.wire_bytes > 0 && progress.wire_bytes < progress.received_bytes);
    let requested = setup.agent.requested_bytes();
    assert_eq!(requested, total, "every block was asked for once");
    assert!(
        sources[0]
            .read_at(&mut [0; 2], disks[0].len() as u64 - 1)
            .is_err()
    );
    assert!(sources[0].read_at(&mut [0; 2], u64::MAX).is_err());
}

#[test]
fn zero_blocks_and_extents_are_known_without_reading() {
    let mut disk = mixed(2, 3);
    disk[MIB..MIB + 3 * BLOCK].fill(0);
    let setup = Setup::new(FakeAgent::new(vec![disk.clone()]));
    let source = setup.machine.sources().remove(0);
    let whole = source.extent_at(0, u64::MAX).unwrap();
    assert_eq!(
        (whole.len, whole.kind),
        (disk.len() as u64, ExtentKind::Data)
    );
    let _running = setup.start();
    eventually("the extents came", || {
        source.extent_at(MIB as u64, 1 << 30).unwrap().kind == ExtentKind::Zero
    });
    let mut next = 0;
    while next < disk.len() {
        let extent = source.extent_at(next as u64, u64::MAX).unwrap();
        let end = next + usize::try_from(extent.len).unwrap();
        let zero = disk[next..end].iter().all(|&byte| byte == 0);
        assert_eq!(zero, extent.kind == ExtentKind::Zero, "{extent:?}");
        next = end;
    }
    assert!(setup.agent.requests.lock().unwrap().is_empty());
}

#[test]
fn connections_that_break_again_and_again_change_nothing() {
    let disk = mixed(24, 4);
    let agent = FakeAgent::new(vec![disk.clone()]);
    agent.cut_after.store(5, Ordering::Relaxed);
    let setup = Setup::new(agent);
    let _running = setup.start();
    let source = setup.machine.sources().remove(0);
    assert!(receive(source.as_ref()).unwrap() == disk);
    assert!(setup.agent.ends.lock().unwrap().len() >= 3);
    let events = setup.events();
    assert!(events.contains(&"gone 1".to_owned()), "{events:?}");
}

#[test]
fn a_reopened_spool_asks_for_nothing_twice() {
    let disk = mixed(8, 5);
    let mut setup = Setup::new(FakeAgent::new(vec![disk.clone()]));
    let running = setup.start();
    let mut half = vec![0; disk.len() / 2];
    setup.machine.sources()[0].read_at(&mut half, 0).unwrap();
    let first = setup.agent.requested_bytes();
    drop(running);
    setup.reopen(|_| {});
    // What is there is there without an agent.
    let source = setup.machine.sources().remove(0);
    source.read_at(&mut half, 0).unwrap();
    assert!(half[..] == disk[..disk.len() / 2]);
    let _running = setup.start();
    assert!(receive(source.as_ref()).unwrap() == disk);
    eventually("all is there", || {
        let progress = setup.machine.progress();
        progress.done_bytes == progress.total_bytes
    });
    assert!(first > 0);
    assert_eq!(setup.agent.requested_bytes(), disk.len() as u64);
}

#[test]
fn a_claim_without_its_data_is_asked_for_again() {
    let disk = mixed(2, 6);
    let mut setup = Setup::new(FakeAgent::new(vec![disk.clone()]));
    let running = setup.start();
    let source = setup.machine.sources().remove(0);
    assert!(receive(source.as_ref()).unwrap() == disk);
    eventually("all is there", || {
        setup.agent.requested_bytes() == disk.len() as u64
            && setup.machine.progress().done_bytes == disk.len() as u64
    });
    drop(running);
    // A power loss took the data of one block; its record survived.
    let data = setup.dir.path().join("spool/disk0.data");
    let file = std::fs::OpenOptions::new().write(true).open(data).unwrap();
    file.write_all_at(&[0; BLOCK], 4 * BLOCK as u64).unwrap();
    setup.reopen(|_| {});
    let _running = setup.start();
    assert!(receive(setup.machine.sources()[0].as_ref()).unwrap() == disk);
    let again = setup.agent.requested_bytes() - disk.len() as u64;
    assert_eq!(again, BLOCK as u64);
}

#[test]
fn a_rate_limit_holds() {
    const RATE: u64 = 16 << 20;
    let disk = noise(24 * MIB, 7);
    let setup = Setup::with(FakeAgent::new(vec![disk.clone()]), |options| {
        options.bandwidth = Some(RATE);
    });
    let started = Instant::now();
    let _running = setup.start();
    assert!(receive(setup.machine.sources()[0].as_ref()).unwrap() == disk);
    let rate = disk.len() as f64 / started.elapsed().as_secs_f64();
    let part = rate / RATE as f64;
    // A loaded machine may be slower than the limit, never faster.
    assert!((0.6..=1.15).contains(&part), "{part}");
}

#[test]
fn jobs_share_a_limit_fairly() {
    const RATE: u64 = 16 << 20;
    let total = RateLimit::new(Some(RATE));
    let setups: Vec<_> = (0..2)
        .map(|n| {
            Setup::with(FakeAgent::new(vec![noise(32 * MIB, n)]), |options| {
                options.total_bandwidth = Arc::clone(&total);
            })
        })
        .collect();
    let running: Vec<_> = setups.iter().map(Setup::start).collect();
    for setup in &setups {
        setup.machine.sources()[0].will_need(slice::from_ref(&(0..32 << 20)));
    }
    std::thread::sleep(Duration::from_secs(2));
    let done: Vec<u64> = setups
        .iter()
        .map(|setup| setup.machine.progress().done_bytes)
        .collect();
    drop(running);
    let (low, high) = (done[0].min(done[1]), done[0].max(done[1]));
    assert!(low * 2 >= high, "{done:?}");
    assert!(low + high <= RATE * 5 / 2, "{done:?}");
}

#[test]
fn a_second_run_sends_only_what_changed() {
    let mut disk = mixed(6, 8);
    let mut setup = Setup::new(FakeAgent::new(vec![disk.clone()]));
    let running = setup.start();
    let source = setup.machine.sources().remove(0);
    assert!(receive(source.as_ref()).unwrap() == disk);
    eventually("all is there", || {
        setup.machine.progress().done_bytes == disk.len() as u64
    });
    drop(running);
    setup.machine.stop();
    // Changed on the machine: one block, one to zero, one from zero. Damaged here: one.
    disk[10 * BLOCK + 5] ^= 1;
    disk[14 * BLOCK..15 * BLOCK].fill(0);
    disk[16 * BLOCK + 100] = 1;
    let data = setup.dir.path().join("spool/disk0.data");
    let file = std::fs::OpenOptions::new().write(true).open(data).unwrap();
    file.write_all_at(b"rot", 40 * BLOCK as u64).unwrap();
    setup.agent = Arc::new(FakeAgent::new(vec![disk.clone()]));
    let mut again = options(&setup.dir.path().join("second"));
    again.base = Some(setup.dir.path().join("spool"));
    setup.machine = open(&setup.agent.inventory(), again);
    setup.rig.agents.admit(&setup.identity, 2, &setup.machine);
    let _running = setup.start();
    assert!(receive(setup.machine.sources()[0].as_ref()).unwrap() == disk);
    eventually("all is there", || {
        setup.machine.progress().done_bytes == disk.len() as u64
    });
    let progress = setup.machine.progress();
    // Two changed blocks, and what shared a chunk with the damaged one.
    assert!(progress.received_bytes >= 2 * BLOCK as u64);
    assert!(progress.received_bytes <= 19 * BLOCK as u64, "{progress:?}");
    assert!(progress.same_bytes > 3 * MIB as u64);
    assert!(progress.wire_bytes < 2 * MIB as u64);
}

#[test]
fn bad_places_are_kept_and_read_again_only_on_request() {
    let mut disk = mixed(2, 9);
    disk[70_000..71_024].fill(0);
    let mut agent = FakeAgent::new(vec![disk.clone()]);
    let bad = 70_000..71_024;
    agent.bad = vec![bad.clone()];
    let mut setup = Setup::new(agent);
    let running = setup.start();
    let source = setup.machine.sources().remove(0);
    assert!(receive(source.as_ref()).unwrap() == disk);
    assert_eq!(setup.machine.disks()[0].bad, slice::from_ref(&bad));
    assert_eq!(setup.machine.progress().bad_bytes, 1024);
    let proof = setup.machine.prove(false, &CancelToken::new()).unwrap();
    assert!(proof[0].covered_bytes <= (disk.len() - BLOCK) as u64);
    drop(running);
    let before = setup.agent.requested_bytes();
    setup.reopen(|_| {});
    assert_eq!(setup.machine.disks()[0].bad, slice::from_ref(&bad));
    let mut buf = vec![1; 2 * BLOCK];
    setup.machine.sources()[0].read_at(&mut buf, 0).unwrap();
    assert_eq!(setup.agent.requested_bytes(), before);
    // The controller was mended.
    let healed = noise(disk.len(), 9);
    setup.agent = Arc::new(FakeAgent::new(vec![healed.clone()]));
    setup.reopen(|options| options.retry_bad = true);
    let _running = setup.start();
    setup.machine.sources()[0].read_at(&mut buf, 0).unwrap();
    assert!(buf[BLOCK..] == healed[BLOCK..2 * BLOCK]);
    assert!(setup.machine.disks()[0].bad.is_empty());
    let requests = setup.agent.requests.lock().unwrap();
    assert!(requests.len() == 1 && requests[0].retry_bad, "{requests:?}");
}

#[test]
fn both_sides_prove_that_they_have_the_same() {
    let disks = vec![mixed(3, 10), mixed(66, 11)];
    let setup = Setup::new(FakeAgent::new(disks.clone()));
    let running = setup.start();
    for source in setup.machine.sources() {
        receive(source.as_ref()).unwrap();
    }
    let all: u64 = disks.iter().map(|disk| disk.len() as u64).sum();
    eventually("all is there", || {
        setup.machine.progress().done_bytes == all
    });
    // The agent comes back in the middle.
    drop(running);
    let machine = Arc::clone(&setup.machine);
    let proving = std::thread::spawn(move || machine.prove(true, &CancelToken::new()));
    std::thread::sleep(Duration::from_millis(50));
    let _running = setup.start();
    let proof = proving.join().unwrap().unwrap();
    assert_eq!(proof.len(), 3);
    assert_eq!(
        proof.iter().map(|range| range.covered_bytes).sum::<u64>(),
        all
    );
    assert_eq!((proof[2].disk, proof[2].offset), (1, 64 << 20));
    // A byte flips behind the spool's back.
    let data = setup.dir.path().join("spool/disk1.data");
    let file = std::fs::OpenOptions::new().write(true).open(data).unwrap();
    file.write_all_at(&[disks[1][BLOCK] ^ 1], BLOCK as u64)
        .unwrap();
    let error = setup.machine.prove(false, &CancelToken::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(text(&error).contains("sdb"), "{}", text(&error));
    let cancel = CancelToken::new();
    cancel.cancel();
    assert_eq!(
        setup.machine.prove(false, &cancel).unwrap_err().kind(),
        ErrorKind::Cancelled
    );
}

#[test]
fn a_disk_that_changed_at_the_machine_fails_the_proof() {
    let disk = mixed(2, 12);
    let mut setup = Setup::new(FakeAgent::new(vec![disk.clone()]));
    let running = setup.start();
    receive(setup.machine.sources()[0].as_ref()).unwrap();
    drop(running);
    let mut changed = disk;
    changed[0] ^= 1;
    setup.agent = Arc::new(FakeAgent::new(vec![changed]));
    let _running = setup.start();
    let error = setup.machine.prove(false, &CancelToken::new()).unwrap_err();
    let error = text(&error);
    assert!(
        error.contains("disk sda: at 0x0") && error.contains("differ"),
        "{error}"
    );
}

#[test]
fn the_agent_hears_of_its_job_and_the_newer_connection_wins() {
    let setup = Setup::new(FakeAgent::new(vec![mixed(1, 13)]));
    let _running = setup.start();
    eventually("connected", || setup.machine.is_connected());
    let status = JobStatus {
        state: JobState::Copying.into(),
        text: "copying".to_owned(),
        ..JobStatus::default()
    };
    setup.rig.agents.status.send_replace(status.clone());
    eventually("the status came", || {
        setup.agent.statuses.lock().unwrap().last() == Some(&status)
    });
    // The machine was reset: another agent with the same certificate.
    let newer = Arc::new(FakeAgent::new(vec![mixed(1, 13)]));
    let running = setup.rig.start(&setup.identity, &newer);
    eventually("the older was told", || {
        let ends = setup.agent.ends.lock().unwrap();
        ends.iter().any(|end| end.code() == tonic::Code::Aborted)
    });
    assert!(setup.machine.is_connected());
    drop(running);
    setup.machine.stop();
    let error = setup.machine.sources()[0]
        .read_at(&mut [0; 9], 0)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn what_is_needed_of_the_spool_s_file_system_is_checked() {
    let setup = Setup::with(FakeAgent::new(vec![mixed(2, 14)]), |options| {
        options.reserve_bytes = 1 << 60;
    });
    let _running = setup.start();
    let error = setup.machine.sources()[0]
        .read_at(&mut [0; 9], 0)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(text(&error).contains("must stay free"), "{}", text(&error));
}
