use proptest::prelude::*;

use super::base::BASE;
use super::*;
use crate::testing::{self, Made};

const PAGES: usize = 24;

/// A hive file of bins of one page, each full of one byte; bytes are not cells, which replay does not look at.
fn hive(pages: usize, fill: impl Fn(usize) -> u8, written: u64) -> Vec<u8> {
    let mut hive = vec![0; BASE];
    hive[..4].copy_from_slice(b"regf");
    hive[44] = 1;
    for page in 0..pages {
        let mut bin = vec![fill(page); 4096];
        bin[..4].copy_from_slice(b"hbin");
        bin[4..8].copy_from_slice(&u32::try_from(page * 4096).unwrap().to_le_bytes());
        bin[8..12].copy_from_slice(&4096u32.to_le_bytes());
        if page == 0 {
            bin[20..28].copy_from_slice(&written.to_le_bytes());
        }
        hive.extend(bin);
    }
    let size = u32::try_from(pages * 4096).unwrap();
    Edit(&mut hive)
        .sequence(7, 7)
        .bins_size(size)
        .written(written);
    hive
}

/// Six versions; later ones change other pages, the last two are larger.
fn versions() -> Vec<Vec<u8>> {
    let version = |number: usize| {
        let pages = if number < 4 { PAGES } else { PAGES + number };
        let fill = move |page: usize| {
            let mut changes = (1..=number).filter(|n| page.is_multiple_of(n + 2) || page >= PAGES);
            u8::try_from(changes.next_back().unwrap_or(0)).unwrap()
        };
        hive(pages, fill, 1000)
    };
    (0..6).map(version).collect()
}

fn made() -> (Made, Vec<Vec<u8>>) {
    let versions = versions();
    let slices: Vec<&[u8]> = versions.iter().map(Vec::as_slice).collect();
    (testing::incremental(&slices), versions)
}

fn bins(hive: &[u8]) -> &[u8] {
    &hive[BASE..]
}

#[track_caller]
fn replays(made: &Made, expected: &[u8], count: u32) -> Vec<u8> {
    let (hive, replayed) = replay(made.primary.clone(), &made.logs).unwrap();
    assert_eq!(replayed, count);
    assert!(bins(&hive) == bins(expected), "the bins differ");
    let base = Base::read(&hive).expect("a valid base block");
    assert!(base.is_settled());
    assert_eq!(base.file_type, 0);
    assert_eq!(base.bins_size as usize, hive.len() - BASE);
    hive
}

#[track_caller]
fn refused(made: &Made, reason: &str) {
    let error = replay(made.primary.clone(), &made.logs).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Dirty);
    let text = error.to_string();
    assert!(text.contains(reason), "{text}");
    assert!(text.contains("shutdown /s"), "{text}");
}

#[test]
fn entries_of_both_logs_are_replayed() {
    let (made, versions) = made();
    assert!(!made.logs.log1.is_empty() && !made.logs.log2.is_empty());
    replays(&made, &versions[5], 5);
}

#[test]
fn the_logs_may_be_in_either_order() {
    let (mut made, versions) = made();
    std::mem::swap(&mut made.logs.log1, &mut made.logs.log2);
    replays(&made, &versions[5], 5);
}

#[test]
fn a_torn_hive_is_repaired() {
    let (made, versions) = made();
    let torn = made.torn(&versions[5]);
    assert!(bins(&torn.primary) != bins(&versions[0]));
    replays(&torn, &versions[5], 5);
}

#[test]
fn a_lost_base_block_comes_from_the_log() {
    let (made, versions) = made();
    replays(
        &made.clone().torn(&versions[5]).with_bad_base(),
        &versions[5],
        5,
    );
    let mut wiped = made;
    wiped.primary[..512].fill(0);
    replays(&wiped, &versions[5], 5);
}

#[test]
fn a_lost_base_block_takes_the_newer_of_two_unrelated_logs() {
    let (made, versions) = made();
    // LOG1 as an earlier use of the file left it: entry 3, which changes all.
    let mut older = made.clone().with_bad_base();
    let mut stale = versions[0].clone();
    Edit(&mut stale).sequence(3, 3);
    let junk = hive(PAGES, |_| 0xee, 900);
    older.logs.log1 = testing::incremental(&[&stale, &junk]).logs.log1;
    // The hive as it was when LOG2 was begun.
    older.primary.truncate(BASE);
    older.primary.extend(bins(&versions[3]));
    replays(&older, &versions[5], 2);
}

#[test]
fn entries_that_the_hive_has_are_left_out() {
    let (mut made, versions) = made();
    // As after a write of all that was in LOG1.
    made.primary = versions[3].clone();
    Edit(&mut made.primary).sequence(11, 10);
    replays(&made, &versions[5], 2);
}

#[test]
fn replay_stops_at_the_first_bad_entry() {
    let (made, versions) = made();
    let mut at = SECTOR;
    for good in 0..2u32 {
        let mut bad = made.clone();
        let last = bad.logs.log1[at..].to_vec();
        // One bit of the entry's last page.
        let size = u32::from_le_bytes(last[4..8].try_into().unwrap()) as usize;
        bad.logs.log1[at + size - 600] ^= 1;
        if good == 0 {
            refused(&bad, "LOG1: its first hash is wrong");
        } else {
            replays(&bad, &versions[good as usize], good);
        }
        let mut bad = made.clone();
        bad.logs.log1[at + 16] ^= 1;
        if good == 0 {
            refused(&bad, "its second hash is wrong");
        } else {
            replays(&bad, &versions[good as usize], good);
        }
        at += size;
    }
}

#[test]
fn a_gap_between_the_logs_stops_replay() {
    let (mut made, versions) = made();
    // Without its last entry.
    let (entries, _) = incremental::entries(&made.logs.log1, SECTOR);
    assert_eq!(entries.len(), 3);
    let cut = made.logs.log1.len() - 600;
    made.logs.log1.truncate(cut);
    replays(&made, &versions[2], 2);
}

#[test]
fn the_new_sequence_number_is_above_all_in_the_logs() {
    let (mut made, versions) = made();
    // Entries 7 to 11; what is in the way of the last two does not hide them.
    let end = made.logs.log2.len();
    made.logs.log2[end - 600] ^= 1;
    let hive = replays(&made, &versions[4], 4);
    assert_eq!(Base::read(&hive).unwrap().sequence_1, 12);

    let (clean, replayed) = replay(versions[5].clone(), &made.logs).unwrap();
    assert_eq!(replayed, 0);
    assert_eq!(Base::read(&clean).unwrap().sequence_1, 12);
    assert!(
        bins(&clean) == bins(&versions[5]),
        "a clean hive ignores its logs"
    );
    // So nothing of the logs follows on a hive that Windows has made dirty again.
    let mut again = clean;
    Edit(&mut again).sequence(13, 12);
    let again = Made {
        primary: again,
        logs: made.logs,
    };
    refused(&again, "expected log entry 12, the logs start with 7");
}

#[test]
fn a_dirty_hive_without_logs_is_refused() {
    let (mut made, _) = made();
    made.logs = Logs::default();
    refused(&made, "sequence numbers are 8 and 7, and there are no logs");
    made.logs.log1 = vec![0; 4096];
    refused(&made, "LOG1: its base block is not valid");
    let made = made.with_bad_base();
    refused(&made, "its base block is damaged");
}

#[test]
fn an_old_log_repairs_a_torn_hive() {
    let versions = versions();
    for last in [&versions[3], &versions[5]] {
        let mut last = last.clone();
        Edit(&mut last).written(2000);
        last[BASE + 20..BASE + 28].copy_from_slice(&2000u64.to_le_bytes());
        let torn = testing::dirt(&versions[0], &last).torn(&last);
        replays(&torn, &last, 1);
        replays(&torn.clone().with_bad_base(), &last, 1);
        let one = torn.clone().with_one_log();
        assert!(one.logs.log1.is_empty());
        replays(&one, &last, 1);

        let mut other = torn.clone();
        Edit(&mut other.logs.log1).written(1999);
        refused(&other, "of another transaction");
        // LOG2 of the same write is as good.
        other.logs.log2 = torn.logs.log1.clone();
        replays(&other, &last, 1);
        let mut unfinished = torn.clone();
        Edit(&mut unfinished.logs.log1).sequence(9, 8);
        refused(&unfinished, "not written to its end");
        let mut cut = torn;
        let len = cut.logs.log1.len() - 512;
        cut.logs.log1.truncate(len);
        refused(&cut, "cut short");
    }
}

#[test]
fn what_is_no_hive_is_left_to_the_reader() {
    for bytes in [vec![], vec![0; 100], vec![0; 8192], b"regf".to_vec()] {
        assert_eq!(replay(bytes.clone(), &Logs::default()).unwrap(), (bytes, 0));
    }
}

#[test]
fn growth_is_bounded() {
    let mut made = made().0;
    let huge = incremental::write_entry(7, 0, 0x7fff_f000, &[(0, &[0; 4096])]);
    made.logs.log1.truncate(SECTOR);
    made.logs.log1.extend(huge);
    refused(&made, "the logs do not repair it");
}

proptest! {
    #[test]
    fn any_damage_of_the_logs_leaves_a_version_or_is_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let (mut made, versions) = made();
        for (at, byte, first) in damage {
            let log = if first { &mut made.logs.log1 } else { &mut made.logs.log2 };
            let at = at.index(log.len());
            log[at] = byte;
        }
        if let Some(cut) = cut {
            let len = cut.index(made.logs.log2.len());
            made.logs.log2.truncate(len);
        }
        match replay(made.primary, &made.logs) {
            Ok((hive, replayed)) => {
                prop_assert!(bins(&hive) == bins(&versions[replayed as usize]));
            }
            Err(error) => prop_assert_eq!(error.kind, ErrorKind::Dirty),
        }
    }
}
