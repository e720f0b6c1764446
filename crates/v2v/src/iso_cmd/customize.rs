//! `v2v iso customize`: copies a P2V ISO and writes settings into the copy's custom.cfg.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use wire::join::JoinString;

use super::custom::{Custom, MAX_SIZE, MAX_TIMEOUT, Settings, check_words};
use super::iso9660::{Extent, Volume};
use super::print;
use crate::image_cmd::output::NewFile;

/// Volume label of our ISO.
const LABEL: &str = "P2V";
const PATH: &[&str] = &["p2v", "custom.cfg"];

/// Copy a P2V ISO with the server and other settings put in
///
/// What the ISO was customized with before is not kept. The copy holds a
/// secret if it has a join string: only its owner can read it.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The copy; must not exist
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FILE",
        required_unless_present = "show"
    )]
    output: Option<PathBuf>,
    /// Join string of `v2v token create`
    #[arg(long, value_name = "STRING")]
    join: Option<String>,
    /// Server, instead of or before those of the join string
    #[arg(long, value_name = "ADDR[:PORT]")]
    server: Option<String>,
    /// Name of the guest
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Start without asking anybody
    #[arg(long)]
    auto: bool,
    /// Further kernel words, such as "ip=dhcp p2v.disks=sda"
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    kargs: Option<String>,
    /// How long the boot menu waits
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_TIMEOUT)))]
    timeout: Option<u16>,
    /// Only print what the ISO was customized with
    #[arg(long, conflicts_with_all = ["output", "join", "server", "name", "auto", "kargs", "timeout"])]
    show: bool,
    /// ISO that `cargo xtask iso` built
    #[arg(value_name = "ISO")]
    iso: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let iso = File::open(&args.iso).with_context(|| format!("opening {}", args.iso.display()))?;
    let (extent, custom) =
        find(&iso).with_context(|| format!("{}: not a P2V ISO", args.iso.display()))?;
    let Some(output) = &args.output else {
        return Ok(print(&describe(&custom.settings, &custom.base))?);
    };
    let settings = settings(args)?;
    let bytes = custom.with(&settings)?;
    write(&iso, output, extent, &bytes)?;
    Ok(print(&format!(
        "network boot: {}\n",
        network_boot(&settings, &custom.base)
    ))?)
}

/// custom.cfg on `iso`.
fn find(iso: &File) -> Result<(Extent, Custom)> {
    ensure!(iso.metadata()?.is_file(), "not a regular file");
    let volume = Volume::open(iso)?;
    ensure!(
        volume.label == LABEL,
        "its label is {:?}, expected {LABEL:?}",
        volume.label
    );
    let extent = volume.find(PATH)?;
    ensure!(
        extent.len <= MAX_SIZE,
        "custom.cfg has {} bytes, expected at most {MAX_SIZE}",
        extent.len
    );
    let mut bytes = vec![0; usize::try_from(extent.len)?];
    iso.read_exact_at(&mut bytes, extent.offset)
        .context("reading custom.cfg")?;
    Ok((extent, Custom::parse(&bytes)?))
}

fn settings(args: &Args) -> Result<Settings> {
    let mut words = Vec::new();
    if let Some(join) = &args.join {
        let join: JoinString = join.parse().context("--join")?;
        words.push(format!("p2v.join={join}"));
    }
    for (option, word, value) in [
        ("--server", "p2v.server", &args.server),
        ("--name", "p2v.name", &args.name),
    ] {
        if let Some(value) = value {
            ensure!(
                !value.is_empty() && !value.contains(char::is_whitespace),
                "{option}: {value:?} is empty or has a space, which ends a kernel word"
            );
            check_words(value).context(option)?;
            words.push(format!("{word}={value}"));
        }
    }
    if args.auto {
        ensure!(
            args.join.is_some() || args.server.is_some() || args.kargs.is_some(),
            "--auto needs --join or --server: nobody is there to type it"
        );
        words.push("p2v.auto".to_owned());
    }
    let kargs = args.kargs.as_deref().unwrap_or_default();
    words.extend(kargs.split_whitespace().map(str::to_owned));
    Ok(Settings {
        kargs: words.join(" "),
        auto: args.auto,
        timeout: args.timeout,
    })
}

/// Copies `iso` to `output`, with `bytes` at `extent`.
fn write(iso: &File, output: &Path, extent: Extent, bytes: &[u8]) -> Result<()> {
    ensure!(
        extent.len == bytes.len() as u64,
        "custom.cfg keeps its size"
    );
    let new = NewFile::new(output)?;
    let writing = || format!("writing {}", output.display());
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new.path())
        .with_context(writing)?;
    copy(iso, &file).with_context(writing)?;
    file.write_all_at(bytes, extent.offset)
        .with_context(writing)?;
    file.sync_all().with_context(writing)?;
    new.place()
}

/// Shares the blocks where the file system can; else the kernel copies (copy_file_range), else we do.
fn copy(from: &File, to: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let (mut from, mut to) = (from, to);
    io::copy(&mut from, &mut to).map(drop)
}

fn network_boot(settings: &Settings, base: &str) -> String {
    format!("vmlinuz initrd=initrd.img {base} {}", settings.kargs)
        .trim_end()
        .to_owned()
}

fn describe(settings: &Settings, base: &str) -> String {
    let mut text = String::new();
    let join = settings
        .kargs
        .split(' ')
        .find_map(|word| word.strip_prefix("p2v.join=")?.parse::<JoinString>().ok());
    if let Some(join) = join {
        text += &format!("servers:      {}\n", join.servers.join(", "));
        text += &format!("fingerprint:  {}\n", join.fingerprint);
    }
    let timeout = settings
        .timeout
        .map_or("default".to_owned(), |seconds| format!("{seconds} s"));
    let kargs = match settings.kargs.as_str() {
        "" => "none",
        kargs => kargs,
    };
    text += &format!("kernel words: {kargs}\n");
    text += &format!(
        "unattended:   {}\n",
        if settings.auto { "yes" } else { "no" }
    );
    text += &format!("menu waits:   {timeout}\n");
    text += &format!("network boot: {}\n", network_boot(settings, base));
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use wire::join::{Fingerprint, Secret};

    use super::super::iso9660::tests::image;
    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn built() -> Vec<u8> {
        let mut custom = b"# v2v iso custom 1 size=16384 kargs=1800\n# base quiet\n".to_vec();
        custom.resize(16384, b'\n');
        custom.extend([7; 4096]);
        let mut image = image(&custom);
        let at = image.len() - 16384 - 4096;
        // The file is 16 KiB; what follows is another's.
        let record = image[..at]
            .windows(12)
            .position(|w| w == b"CUSTOM.CFG;1")
            .unwrap()
            - 33;
        image[record + 10..record + 14].copy_from_slice(&16384u32.to_le_bytes());
        image[record + 14..record + 18].copy_from_slice(&16384u32.to_be_bytes());
        image
    }

    fn customize(iso: &Path, words: &[&str]) -> Result<()> {
        let iso = iso.to_str().unwrap();
        run(&Cli::parse_from([&["x"], words, &[iso]].concat()).args)
    }

    #[test]
    fn the_copy_differs_from_the_iso_only_in_its_settings() {
        let dir = tempfile::tempdir().unwrap();
        let (iso, copy) = (dir.path().join("p2v.iso"), dir.path().join("my.iso"));
        std::fs::write(&iso, built()).unwrap();
        let join = JoinString {
            servers: vec!["192.0.2.7:7440".into()],
            fingerprint: Fingerprint([3; 32]),
            secret: Secret([4; 16]),
        }
        .to_string();
        let out = copy.to_str().unwrap();
        customize(
            &iso,
            &[
                "-o",
                out,
                "--join",
                &join,
                "--auto",
                "--kargs",
                " ip=dhcp  p2v.disks=sda",
                "--timeout",
                "0",
            ],
        )
        .unwrap();
        assert_eq!(std::fs::read(&iso).unwrap(), built());
        let made = std::fs::read(&copy).unwrap();
        let custom = 20 * 2048..20 * 2048 + 16384;
        assert_eq!(made.len(), built().len());
        assert_eq!(made[..custom.start], built()[..custom.start]);
        assert_eq!(made[custom.end..], built()[custom.end..]);
        let (_, read) = find(&File::open(&copy).unwrap()).unwrap();
        assert_eq!(
            read.settings.kargs,
            format!("p2v.join={join} p2v.auto ip=dhcp p2v.disks=sda")
        );
        assert!(read.settings.auto && read.settings.timeout == Some(0));
        let text = describe(&read.settings, &read.base);
        assert!(text.contains("servers:      192.0.2.7:7440\n"), "{text}");
        assert!(
            text.contains("network boot: vmlinuz initrd=initrd.img quiet p2v.join="),
            "{text}"
        );
        let mode = std::os::unix::fs::PermissionsExt::mode(&copy.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_work_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (iso, copy) = (dir.path().join("p2v.iso"), dir.path().join("my.iso"));
        std::fs::write(&iso, built()).unwrap();
        let (same, out) = (
            iso.to_str().unwrap().to_owned(),
            copy.to_str().unwrap().to_owned(),
        );
        let long = "x".repeat(1801);
        let cases: &[(&[&str], &str)] = &[
            (&["-o", &same], "exists already"),
            (&["-o", &out, "--join", "v2v1.AAAA"], "not a join string"),
            (&["-o", &out, "--name", "my server"], "ends a kernel word"),
            (&["-o", &out, "--name", "$(x)"], "GRUB"),
            (&["-o", &out, "--kargs", &long], "room for 1800"),
            (&["-o", &out, "--auto"], "needs --join"),
            (&["-o", "/nowhere/x.iso"], "nowhere"),
        ];
        for (words, expected) in cases {
            let error = format!("{:#}", customize(&iso, words).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
        std::fs::write(&iso, &built()[..21 * 2048]).unwrap();
        let error = format!("{:#}", customize(&iso, &["-o", &out]).unwrap_err());
        assert!(
            error.contains("not a P2V ISO") && error.contains("cut off"),
            "{error}"
        );
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
