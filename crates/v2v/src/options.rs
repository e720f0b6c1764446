//! From the command line to a [`Job`]: every option and combination is checked here, before any work.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use convert::{
    ApplianceOptions, Conversion, Job, MacRule, NetworkRules, RootChoice, Trim, Unknown,
};
use image::Preallocation;
use image::formats::{Format, OutputFormat};
use source::SourceOptions;
use target::{DomainType, TargetKind, TargetOptions};
use types::{BlockBus, MacAddr, NicNetwork, StaticIp};

use crate::cli::Cli;
use crate::input;

/// Output modes of virt-v2v that this program does not have yet.
const LATER_OUTPUTS: &[&str] = &[
    "glance",
    "kubevirt",
    "openstack",
    "ovirt",
    "ovirt-upload",
    "rhv",
    "rhv-upload",
    "rhev",
    "vdsm",
];

/// Everything that a conversion needs.
pub(crate) fn job(cli: &Cli) -> Result<Job> {
    let source = input::source_kind(cli)?;
    let source_options = SourceOptions {
        format: parse_option("-if", cli.input_format.as_deref())?,
        vm: cli.vm.clone(),
        base_dir: cli.base_dir.clone(),
    };
    Ok(Job {
        conversion: conversion(cli, &source_options)?,
        source,
        source_options,
    })
}

/// What is to be done with a source, whatever it is.
pub(crate) fn conversion(cli: &Cli, source_options: &SourceOptions) -> Result<Conversion> {
    let (networks, static_ips) = network_rules(cli)?;
    if cli.compat
        && let Some(option) = cli.customise.first()
    {
        bail!("--compat changes nothing in the guest: --{option} does not go with it");
    }
    let customisation = cli.customise.read(cli.allow_guest_code)?;
    Ok(Conversion {
        target: target_options(cli, source_options)?,
        name: cli.output_name.clone(),
        networks,
        static_ips,
        root: root_choice(cli.root.as_deref())?,
        trim: trim(cli.no_fstrim.as_deref()),
        keys: cli
            .keys
            .iter()
            .map(|selector| key(selector))
            .collect::<Result<_>>()?,
        appliance: ApplianceOptions {
            memsize_mib: cli.memsize,
            smp: cli.smp,
        },
        parallel: match cli.parallel {
            Some(0) => bail!("--parallel 0: expected at least 1"),
            Some(count) => count,
            None => 1,
        },
        report: cli.report.clone(),
        unknown: unknown(cli)?,
        block_driver: block_driver(cli.block_driver.as_deref())?,
        customise: customisation.changes,
        payload: customisation.payload,
        qemu_ga: qemu_ga(cli.qemu_ga.as_deref())?,
        allow_guest_code: cli.allow_guest_code,
        virtio_win: virtio_win(cli.virtio_win.as_deref())?,
        force_hibernated: cli.force_hibernated,
    })
}

/// What was given, here or by $VIRTIO_WIN, must be there.
fn virtio_win(option: Option<&Path>) -> Result<Option<PathBuf>> {
    let variable = std::env::var_os("VIRTIO_WIN").filter(|value| !value.is_empty());
    let (path, name) = match (option, variable) {
        (Some(path), _) => (path.to_owned(), "--virtio-win"),
        (None, Some(value)) => (PathBuf::from(value), "$VIRTIO_WIN"),
        (None, None) => return Ok(None),
    };
    let shown = path.display();
    let meta = std::fs::metadata(&path).with_context(|| format!("{name} {shown}"))?;
    if meta.is_dir() {
        std::fs::read_dir(&path).with_context(|| format!("{name} {shown}"))?;
    } else if meta.is_file() {
        std::fs::File::open(&path).with_context(|| format!("{name} {shown}"))?;
    } else {
        bail!("{name} {shown}: expected a folder or an ISO");
    }
    Ok(Some(path))
}

/// A package of one of the two kinds that there are.
fn qemu_ga(file: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(file) = file else {
        return Ok(None);
    };
    let name = file.display();
    if !file
        .extension()
        .is_some_and(|end| end == "deb" || end == "rpm")
    {
        bail!("--qemu-ga {name}: expected a package, .deb or .rpm");
    }
    let is_file = std::fs::metadata(file)
        .with_context(|| format!("--qemu-ga {name}"))?
        .is_file();
    if !is_file || file.to_str().is_none() {
        bail!("--qemu-ga {name}: expected a regular file with a name in UTF-8");
    }
    std::fs::File::open(file).with_context(|| format!("--qemu-ga {name}"))?;
    Ok(Some(file.to_owned()))
}

fn unknown(cli: &Cli) -> Result<Unknown> {
    match cli.on_unknown.as_deref() {
        _ if cli.compat => Ok(Unknown::CopyAlways),
        None | Some("refuse") => Ok(Unknown::Refuse),
        Some("copy") => Ok(Unknown::Copy),
        Some(other) => bail!("--on-unknown {other}: expected refuse or copy"),
    }
}

/// virt-v2v knows the same two names.
fn block_driver(text: Option<&str>) -> Result<Option<BlockBus>> {
    match text {
        None => Ok(None),
        Some("virtio-blk") => Ok(Some(BlockBus::VirtioBlk)),
        Some("virtio-scsi") => Ok(Some(BlockBus::VirtioScsi)),
        Some(other) => bail!("--block-driver {other}: expected virtio-blk or virtio-scsi"),
    }
}

fn target_options(cli: &Cli, source: &SourceOptions) -> Result<TargetOptions> {
    let mode = cli.output_mode.as_deref().unwrap_or("libvirt");
    let (mut qemu_boot, mut nvram) = (false, false);
    for option in &cli.output_options {
        match (mode, option.as_str()) {
            ("qemu", "qemu-boot" | "qemu-boot=true") => qemu_boot = true,
            ("local" | "disk", "nvram" | "nvram=true") => nvram = true,
            _ => bail!("-oo {option} does not go with -o {mode}"),
        }
    }
    if cli.output_connection.is_some() && mode != "libvirt" {
        bail!("-oc goes with -o libvirt only, found -o {mode}");
    }
    let directory = || -> Result<PathBuf> {
        match cli.output_storage.as_deref() {
            Some(dir) => Ok(PathBuf::from(dir)),
            None => bail!("-o {mode} needs the directory for the disks: -os DIR"),
        }
    };
    let kind = match mode {
        "local" | "disk" => TargetKind::Local {
            dir: directory()?,
            nvram,
        },
        "libvirt" => TargetKind::Libvirt {
            pool_or_dir: cli.output_storage.clone(),
            uri: cli.output_connection.clone(),
        },
        "qemu" => TargetKind::Qemu {
            dir: directory()?,
            boot: qemu_boot,
        },
        "null" if cli.output_storage.is_some() => {
            bail!("-os does not go with -o null: it writes nothing")
        }
        "null" => TargetKind::Null,
        mode if LATER_OUTPUTS.contains(&mode) => {
            bail!("-o {mode} is not supported yet; supported: libvirt, local, qemu, null")
        }
        mode => bail!("-o {mode}: no such output mode; supported: libvirt, local, qemu, null"),
    };
    let format = match parse_option::<OutputFormat>("-of", cli.output_format.as_deref())? {
        Some(format @ (OutputFormat::Raw | OutputFormat::Qcow2)) => format,
        Some(other) => bail!(
            "-of {other}: a guest is written as raw or qcow2; v2v image convert writes others"
        ),
        None if source.format == Some(Format::Raw) => OutputFormat::Raw,
        None => OutputFormat::Qcow2,
    };
    let preallocation = match cli.output_allocation.as_deref() {
        None | Some("sparse") => Preallocation::Sparse,
        Some("preallocated") => Preallocation::Falloc,
        Some(other) => bail!("-oa {other}: expected sparse or preallocated"),
    };
    Ok(TargetOptions {
        format,
        preallocation,
        name: String::new(),
        overwrite: cli.overwrite,
        domain_type: DomainType::default(),
        keep_uuid: cli.keep_uuid,
        keep_smbios: cli.keep_smbios,
        kind,
    })
}

fn parse_option<T: FromStr>(option: &str, value: Option<&str>) -> Result<Option<T>>
where
    T::Err: std::fmt::Display,
{
    value
        .map(str::parse)
        .transpose()
        .map_err(|error: T::Err| anyhow::anyhow!("{option}: {error}"))
}

fn network_rules(cli: &Cli) -> Result<(NetworkRules, Vec<StaticIp>)> {
    let mut rules = NetworkRules::default();
    let mut static_ips = Vec::new();
    let named = cli
        .networks
        .iter()
        .map(|rule| ("-n", rule, NicNetwork::Network as fn(String) -> NicNetwork));
    let bridged = cli
        .bridges
        .iter()
        .map(|rule| ("-b", rule, NicNetwork::Bridge as fn(String) -> NicNetwork));
    for (option, rule, connect) in named.chain(bridged) {
        match rule.split_once(':') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() => {
                rules
                    .by_name
                    .push((from.to_owned(), connect(to.to_owned())));
            }
            None if !rule.is_empty() => {
                if rules.default.replace(connect(rule.clone())).is_some() {
                    bail!(
                        "{option} {rule}: only one -n or -b without a source network can be given"
                    );
                }
            }
            _ => bail!("{option} {rule}: expected OUT or IN:OUT"),
        }
    }
    for rule in &cli.macs {
        let wrong =
            || format!("--mac {rule}: expected MAC:network:OUT, MAC:bridge:OUT or MAC:ip:ADDR,...");
        let (mac, rest) = rule.split_at_checked(17).with_context(wrong)?;
        let mac: MacAddr = mac.parse().with_context(wrong)?;
        match rest
            .strip_prefix(':')
            .and_then(|rest| rest.split_once(':'))
            .with_context(wrong)?
        {
            ("network", out) if !out.is_empty() => {
                rules.by_mac.push(MacRule {
                    mac,
                    network: NicNetwork::Network(out.to_owned()),
                });
            }
            ("bridge", out) if !out.is_empty() => {
                rules.by_mac.push(MacRule {
                    mac,
                    network: NicNetwork::Bridge(out.to_owned()),
                });
            }
            ("ip", address) => static_ips.push(static_ip(mac, address).with_context(wrong)?),
            _ => bail!(wrong()),
        }
    }
    Ok((rules, static_ips))
}

/// `ADDR[,GW[,PREFIX[,NS...]]]`; an empty field is as if left out.
fn static_ip(mac: MacAddr, text: &str) -> Result<StaticIp> {
    let mut fields = text.split(',');
    let address = fields
        .next()
        .unwrap_or_default()
        .parse()
        .context("the address")?;
    let filled = |field: Option<&str>| field.filter(|text| !text.is_empty()).map(str::to_owned);
    let gateway = filled(fields.next())
        .map(|text| text.parse())
        .transpose()
        .context("the gateway")?;
    let prefix_len: Option<u8> = filled(fields.next())
        .map(|text| text.parse())
        .transpose()
        .context("the prefix length")?;
    let longest = match address {
        std::net::IpAddr::V4(_) => 32,
        std::net::IpAddr::V6(_) => 128,
    };
    if prefix_len.is_some_and(|len| len > longest) {
        bail!("a prefix length of at most {longest} was expected");
    }
    let nameservers = fields
        .map(|text| text.parse().context("a name server"))
        .collect::<Result<_>>()?;
    Ok(StaticIp {
        mac,
        address,
        gateway,
        prefix_len,
        nameservers,
    })
}

fn root_choice(text: Option<&str>) -> Result<RootChoice> {
    match text {
        None | Some("ask") => Ok(RootChoice::Ask),
        Some("single") => Ok(RootChoice::Single),
        Some("first") => Ok(RootChoice::First),
        Some(device) if device.starts_with("/dev/") => Ok(RootChoice::Device(device.to_owned())),
        Some(other) => {
            bail!("--root {other}: expected ask, single, first, or a device such as /dev/sda2")
        }
    }
}

fn trim(text: Option<&str>) -> Trim {
    match text {
        None => Trim::AllBut(vec![]),
        Some("all") => Trim::Nothing,
        Some(list) => Trim::AllBut(list.split(',').map(str::to_owned).collect()),
    }
}

/// `ID:key:PASSPHRASE` or `ID:file:FILE`. A device name may hold colons, so the selector is cut at the keyword.
pub(crate) fn key(selector: &str) -> Result<appliance::Key> {
    let (id, secret) = if let Some((id, secret)) = selector.split_once(":key:") {
        (id, secret.as_bytes().to_vec())
    } else if let Some((id, file)) = selector.split_once(":file:") {
        (
            id,
            std::fs::read(file).with_context(|| format!("--key: reading {file}"))?,
        )
    } else if selector.ends_with(":clevis") {
        bail!("--key {selector}: clevis is not supported yet; use ID:key:… or ID:file:…");
    } else {
        // The value may be a secret: it is not repeated.
        bail!("--key: expected ID:key:PASSPHRASE or ID:file:FILE");
    };
    if id.is_empty() {
        bail!("--key: the ID is empty; expected a device name, a UUID, or all");
    }
    Ok(appliance::Key {
        id: id.to_owned(),
        secret,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parse(args: &[&str]) -> Result<Job> {
        job(&Cli::parse_from([&["v2v"], args].concat()))
    }

    fn refusal(args: &[&str]) -> String {
        format!("{:#}", parse(args).unwrap_err())
    }

    #[test]
    fn a_file_of_variables_is_for_local_only_and_when_asked_for() {
        let nvram = |more: &[&str]| {
            let args = [&["-iova", "-olocal", "--os=/x", "f.ova"], more].concat();
            match parse(&args).unwrap().conversion.target.kind {
                TargetKind::Local { nvram, .. } => nvram,
                other => panic!("{other}"),
            }
        };
        assert!(nvram(&["--oo=nvram"]) && nvram(&["--oo=nvram=true"]) && !nvram(&[]));
        let other = refusal(&["-iova", "-oqemu", "--os=/x", "--oo=nvram", "f.ova"]);
        assert!(other.contains("-oo nvram"), "{other}");
    }

    #[test]
    fn combinations_that_cannot_be_are_refused_by_name() {
        for (args, word) in [
            (&["-iova", "-olocal", "f.ova"][..], "-os DIR"),
            (
                &["-iova", "-onull", "--os=/x", "f.ova"],
                "-os does not go with -o null",
            ),
            (
                &[
                    "-iova",
                    "-olocal",
                    "--os=/x",
                    "--oc=qemu:///system",
                    "f.ova",
                ],
                "-oc goes with -o libvirt",
            ),
            (
                &["-iova", "-olocal", "--os=/x", "--ic=esx://h", "f.ova"],
                "-ic",
            ),
            (
                &["-iova", "-olocal", "--os=/x", "--oo=qemu-boot", "f.ova"],
                "-oo qemu-boot",
            ),
            (
                &["-iova", "-olocal", "--os=/x", "--of=vmdk", "f.ova"],
                "-of",
            ),
            (
                &["-iova", "-olocal", "--os=/x", "--oa=thin", "f.ova"],
                "-oa thin",
            ),
            (
                &["-iova", "-olocal", "--os=/x", "--root=sda1", "f.ova"],
                "--root sda1",
            ),
            (
                &["-iova", "-olocal", "--os=/x", "a.ova", "b.ova"],
                "one OVA",
            ),
            (
                &["-ivmx", "-olocal", "--os=/x", "a.vmx", "b.vmx"],
                "one .vmx",
            ),
            (&["-ifoo", "-olocal", "--os=/x", "a"], "no such input mode"),
            (&["-iova", "-orhv", "a.ova"], "-o rhv is not supported yet"),
            (&["-iova", "-onull", "--mac=zz", "a.ova"], "--mac zz"),
            (
                &["-iova", "-onull", "--parallel=0", "a.ova"],
                "--parallel 0",
            ),
            (&["-iova", "-onull", "-nx", "-by", "a.ova"], "only one"),
        ] {
            let message = refusal(args);
            assert!(message.contains(word), "{args:?}: {message}");
        }
    }

    #[test]
    fn a_secret_is_never_repeated_in_a_message() {
        assert!(!refusal(&["-iova", "-onull", "--key=hunter2", "a.ova"]).contains("hunter2"));
    }

    #[test]
    fn mac_rules_take_networks_bridges_and_addresses() {
        let job = parse(&[
            "-iova",
            "-onull",
            "--mac=00:50:56:00:00:01:bridge:br0",
            "--mac=00:50:56:00:00:01:ip:192.0.2.5,192.0.2.1,24,192.0.2.53,2001:db8::53",
            "a.ova",
        ])
        .unwrap();
        assert_eq!(
            job.conversion.networks.by_mac[0].network,
            NicNetwork::Bridge("br0".into())
        );
        let ip = &job.conversion.static_ips[0];
        assert_eq!(
            (ip.address.to_string(), ip.prefix_len, ip.nameservers.len()),
            ("192.0.2.5".into(), Some(24), 2)
        );
        assert!(
            parse(&[
                "-iova",
                "-onull",
                "--mac=00:50:56:00:00:01:ip:192.0.2.5,,99",
                "a.ova"
            ])
            .is_err()
        );
    }

    #[test]
    fn no_fstrim_without_a_value_means_all() {
        assert_eq!(
            parse(&["-iova", "-onull", "--no-fstrim", "a.ova"])
                .unwrap()
                .conversion
                .trim,
            Trim::Nothing
        );
        assert_eq!(
            parse(&["-iova", "-onull", "--no-fstrim=/boot,/srv", "a.ova"])
                .unwrap()
                .conversion
                .trim,
            Trim::AllBut(vec!["/boot".into(), "/srv".into()])
        );
    }
}
