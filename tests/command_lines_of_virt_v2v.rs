//! virt-v2v's command lines work with `v2v`.

use anyhow::{Result, ensure};
use v2v_tests::{TinyOva, arg, ok, refused, run};

#[test]
fn print_source_understands_an_ova() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ova = TinyOva::new(dir.path(), 8)?.write(dir.path())?;
    for args in [
        vec!["-i", "ova", "-o", "null", "--print-source"],
        vec![
            "-i=ova",
            "-onull",
            "-print-source",
            "--debug-gc",
            "-v",
            "-x",
        ],
    ] {
        let mut args: Vec<String> = args.into_iter().map(Into::into).collect();
        args.push(arg(&ova));
        let text = ok(&args)?;
        ensure!(
            text.contains("tiny") && text.contains("536870912") && text.contains("VM Network"),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn print_source_as_json_is_the_machine() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ova = TinyOva::new(dir.path(), 8)?.write(dir.path())?;
    let text = ok([
        "-i",
        "ova",
        &arg(&ova),
        "-o",
        "null",
        "--print-source",
        "--json",
    ])?;
    let machine: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(
        machine["name"] == "tiny" && machine["memory_bytes"] == 512 << 20,
        "{machine}"
    );
    ensure!(machine["disks"][0]["virtual_size"] == 8 << 20, "{machine}");
    Ok(())
}

#[test]
fn machine_readable_alone_lists_capabilities() -> Result<()> {
    let text = ok(["--machine-readable"])?;
    for line in ["input:ova", "output:local", "output:libvirt"] {
        ensure!(
            text.lines().any(|found| found == line),
            "no {line} in {text}"
        );
    }
    Ok(())
}

#[test]
fn wrong_combinations_are_refused_before_the_source_is_looked_at() -> Result<()> {
    let line = refused(["-i", "ova", "/nonexistent.ova", "-o", "local"])?;
    ensure!(line.contains("-os DIR"), "{line}");
    let line = refused(["-i", "vmx", "-it", "vddk", "/nonexistent.vmx", "-o", "null"])?;
    ensure!(line.contains("-it vddk is not supported"), "{line}");
    Ok(())
}

#[test]
fn an_unknown_option_is_named() -> Result<()> {
    let output = run(["--no-such-option"])?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1) && stderr.contains("--no-such-option"),
        "{stderr}"
    );
    Ok(())
}
