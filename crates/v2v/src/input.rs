//! The input side of the command line: mode, transport and connection, checked against each other.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use source::{SourceKind, SshPlace, VmxPlace};

use crate::cli::Cli;

/// All modes, for messages.
const MODES: &str = "libvirt, libvirtxml, ova, vmx, hyperv, vbox, disk";

/// Which source is meant.
pub(crate) fn source_kind(cli: &Cli) -> Result<SourceKind> {
    let mode = mode(cli);
    check_transport(cli, mode)?;
    check_options(cli, mode)?;
    let one = |what: &str| -> Result<PathBuf> {
        match cli.sources.as_slice() {
            [one] => Ok(one.clone()),
            other => bail!("-i {mode} takes one {what}, found {}", other.len()),
        }
    };
    match mode {
        "ova" => Ok(SourceKind::Ova(one("OVA file or folder")?)),
        "disk" | "local" => match cli.sources.as_slice() {
            [] => bail!("-i disk takes at least one disk file"),
            disks => Ok(SourceKind::Disk(disks.to_vec())),
        },
        "vmx" if cli.input_transport.is_some() => {
            vmx_by_ssh(cli, &one("URI ssh://[USER@]HOST[:PORT]/PATH/NAME.vmx")?)
        }
        "vmx" => {
            let path = one(".vmx file or folder")?;
            if path.to_string_lossy().starts_with("ssh://") {
                bail!("{}: an ssh:// URI needs -it ssh", path.display());
            }
            Ok(SourceKind::Vmx(VmxPlace::File(path)))
        }
        "libvirtxml" => Ok(SourceKind::LibvirtXml(one(
            "file with the XML of a domain",
        )?)),
        "libvirt" => Ok(SourceKind::Libvirt {
            uri: cli.input_connection.clone(),
            domain: one("domain name or UUID")?.to_string_lossy().into_owned(),
        }),
        "hyperv" => Ok(SourceKind::HyperV(one("folder, .vmcx or .xml")?)),
        "vbox" => Ok(SourceKind::Vbox(one("folder or .vbox file")?)),
        mode => bail!("-i {mode}: no such input mode; supported: {MODES}"),
    }
}

/// virt-v2v's default is libvirt.
fn mode(cli: &Cli) -> &str {
    cli.input_mode.as_deref().unwrap_or("libvirt")
}

fn check_transport(cli: &Cli, mode: &str) -> Result<()> {
    match (mode, cli.input_transport.as_deref()) {
        (_, None) | ("vmx", Some("ssh")) => Ok(()),
        (_, Some("vddk")) => bail!(
            "-it vddk is not supported: VMware's library is not free; use -i vmx -it ssh \
             ssh://root@ESXI-HOST/vmfs/volumes/DATASTORE/VM/VM.vmx, or export the machine as an OVA and use -i ova"
        ),
        ("vmx", Some(other)) => bail!("-it {other}: expected ssh"),
        (mode, Some(other)) => {
            bail!("-it {other} does not go with -i {mode}: only -i vmx takes a transport, ssh")
        }
    }
}

fn check_options(cli: &Cli, mode: &str) -> Result<()> {
    let connects = mode == "libvirt";
    let by_ssh = mode == "vmx" && cli.input_transport.is_some();
    for (option, used, allowed) in [
        ("-ic", cli.input_connection.is_some(), connects),
        ("-ip", cli.input_password.is_some(), by_ssh),
        ("-io", !cli.input_options.is_empty(), by_ssh),
    ] {
        if !used || allowed {
            continue;
        }
        if connects && option == "-ip" {
            bail!(
                "-ip does not go with -i libvirt: virsh asks for passwords itself, or takes them from auth.conf"
            );
        }
        if cli
            .input_options
            .iter()
            .any(|text| text.starts_with("vddk-"))
        {
            bail!("-io vddk-*: VDDK is not supported; use -i vmx -it ssh, or -i ova");
        }
        bail!("{option} does not go with -i {mode}: only modes that connect to a server take it");
    }
    if cli.vm.is_some() && !["ova", "hyperv", "vbox"].contains(&mode) {
        bail!("--vm does not go with -i {mode}: its sources hold one machine each");
    }
    Ok(())
}

fn vmx_by_ssh(cli: &Cli, uri: &Path) -> Result<SourceKind> {
    let mut place = SshPlace {
        uri: uri.to_string_lossy().into_owned(),
        password_file: cli.input_password.clone(),
        askpass: std::env::current_exe().ok(),
        program: None,
    };
    for option in &cli.input_options {
        match option.split_once('=') {
            Some(("ssh", program)) if !program.is_empty() => place.program = Some(program.into()),
            _ => bail!("-io {option}: expected ssh=PROGRAM with -it ssh"),
        }
    }
    Ok(SourceKind::Vmx(VmxPlace::Ssh(place)))
}

/// What this program does when ssh starts it to ask for the password: prints the first line of the file of `-ip`.
pub(crate) fn answer_ssh(file: &Path) -> ExitCode {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) if !line.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn kind(args: &[&str]) -> Result<SourceKind> {
        source_kind(&Cli::parse_from([&["v2v"], args].concat()))
    }

    #[test]
    fn libvirt_is_the_mode_when_none_is_named() {
        let want = SourceKind::Libvirt {
            uri: Some("qemu:///system".to_owned()),
            domain: "web".to_owned(),
        };
        assert_eq!(kind(&["--ic=qemu:///system", "web"]).unwrap(), want);
    }

    #[test]
    fn a_machine_of_esxi_is_named_by_its_uri() {
        let uri = "ssh://root@esxi/vmfs/volumes/ds/vm/vm.vmx";
        let want = SourceKind::Vmx(VmxPlace::Ssh(SshPlace {
            uri: uri.to_owned(),
            password_file: Some("pw".into()),
            askpass: std::env::current_exe().ok(),
            program: Some("/bin/myssh".into()),
        }));
        let args = ["-ivmx", "--it=ssh", "--ip=pw", "--io=ssh=/bin/myssh", uri];
        assert_eq!(kind(&args).unwrap(), want);
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        for (args, word) in [
            (&["-ivmx", "ssh://h/a.vmx"][..], "-it ssh"),
            (&["-ivmx", "--it=vddk", "a"], "VMware's library"),
            (&["-iova", "--it=ssh", "a"], "only -i vmx"),
            (&["-ivmx", "--it=nfc", "a"], "expected ssh"),
            (&["-ilibvirt", "--ip=x", "a"], "virsh asks"),
            (&["-ilibvirt", "--io=vddk-libdir=/x", "a"], "VDDK"),
            (&["-ilibvirtxml", "--ic=x", "a"], "-ic does not go"),
            (&["-ivmx", "--vm=x", "a"], "--vm does not go"),
            (
                &["-ivmx", "--it=ssh", "--io=port=1", "ssh://h/a"],
                "ssh=PROGRAM",
            ),
            (&["-ibochs", "a"], "no such input mode"),
            (&[], "one domain"),
        ] {
            let message = kind(args).unwrap_err().to_string();
            assert!(message.contains(word), "{args:?}: {message}");
        }
    }
}
