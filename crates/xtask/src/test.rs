//! `cargo xtask test` and `cargo xtask check`.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use testkit::guest::Sample;
use testkit::guest::matrix::MatrixGuest;

use crate::{dist, iso, lanes, matrix, packages, room, run, samples, suites};

/// Installs what tests need, builds what they run, runs them all, and counts what was skipped.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let start = Instant::now();
    let (all, args): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| *arg == "--all");
    let all = !all.is_empty();
    packages::ensure(match all {
        true => packages::Group::All,
        false => packages::Group::Test,
    })?;
    room::ensure()?;
    let result = build_and_run(all, &args, start);
    result.and(room::give_back())
}

#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
fn build_and_run(all: bool, args: &[&String], start: Instant) -> Result<()> {
    run::run(&mut run::cargo(&["fmt", "--all", "--check"]))?;
    let (suites, image) = thread::scope(|scope| {
        let guests = scope.spawn(|| guests(all));
        let suites = run::build_tests()?;
        eprintln!("built in {:.0} s", start.elapsed().as_secs_f64());
        let image = dist::appliance_around(run::built("applianced")?)?;
        // Six minutes for one more build of the agent and for packing.
        if all {
            iso::for_tests()?;
        }
        let guests = guests.join();
        guests.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok((suites, image))
    })?;
    let skips = testkit::skip_log();
    if skips.exists() {
        fs::remove_file(&skips).with_context(|| format!("removing {}", skips.display()))?;
    }
    eprintln!("prepared in {:.0} s", start.elapsed().as_secs_f64());
    let mut env: Vec<(&str, &Path)> = vec![("V2V_APPLIANCE", &image)];
    if all {
        env.push(("V2V_TEST_ALL", Path::new("1")));
    }
    let mut result = suites::run(suites, args, &env);
    if args.is_empty() {
        let examples = run::run(&mut run::cargo(&[
            "test",
            "--locked",
            "--workspace",
            "--doc",
        ]));
        result = result.and(examples);
    }
    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    for line in skipped.lines() {
        eprintln!("SKIPPED: {line}");
    }
    eprintln!("tests took {:.0} s in all", start.elapsed().as_secs_f64());
    result?;
    if std::env::var_os("CI").is_some() {
        let expected =
            fs::read_to_string(testkit::repo().join("tests/expected-skips")).unwrap_or_default();
        for line in skipped.lines() {
            if !expected
                .lines()
                .any(|allowed| !allowed.trim().is_empty() && line.contains(allowed.trim()))
            {
                bail!("a test was skipped that tests/expected-skips does not list: {line}");
            }
        }
    }
    Ok(())
}

/// Builds the guests that the tests want, two at a time and beside cargo: much of it is waiting, for packages and for the
/// disk.
fn guests(all: bool) -> Result<()> {
    let samples = samples::for_tests(all).map(Guest::Sample);
    let guests: Vec<Guest> = samples
        .chain(matrix::for_tests(all).map(Guest::Matrix))
        .collect();
    lanes::each(2, guests, |guest| match guest {
        Guest::Sample(sample) => samples::build(sample),
        Guest::Matrix(guest) => matrix::build(&guest),
    })?;
    // Where nothing is built twice, what it was built from only takes room.
    match std::env::var_os("CI") {
        Some(_) => testkit::guest::forget_trees(),
        None => Ok(()),
    }
}

enum Guest {
    Sample(Sample),
    Matrix(MatrixGuest),
}

/// Formatting and lints, warnings refused.
pub(crate) fn check() -> Result<()> {
    run::run(&mut run::cargo(&["fmt", "--all", "--check"]))?;
    run::run(&mut run::cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}
