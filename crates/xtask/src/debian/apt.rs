//! A private apt: its own package lists under one directory, the host's mirrors and keys, no root.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::say;
use super::sources::{self, Mirror};

/// The suite with the newest file-system tools; what the host itself runs does not matter to the image.
const SUITE: &str = "trixie";

/// Package lists of one suite.
pub(crate) struct Apt {
    dir: PathBuf,
    /// Downloaded packages.
    debs: PathBuf,
    suite: String,
}

/// A package as it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    section: String,
    /// The archive file that `download` fetched.
    pub(crate) deb: PathBuf,
}

impl Apt {
    /// Fetches the package lists into `WORK/apt`: of `suite` if one is asked for, else of trixie, else of the host's own.
    /// Component `main`, and `extra` where the mirror has it. Packages go to `debs` beside `WORK`, where the appliance and the
    /// ISO find each other's: both have the same kernel.
    pub(crate) fn update(work: &Path, suite: Option<&str>, extra: Option<&str>) -> Result<Apt> {
        let codename = host_codename()?;
        let mirrors = sources::mirrors(Path::new("/etc/apt"), &codename)?;
        let mut candidates = vec![suite.unwrap_or(SUITE)];
        if suite.is_none() && codename != SUITE {
            candidates.push(&codename);
        }
        let mut reasons = Vec::new();
        for candidate in candidates {
            for mirrors in [mirrors.as_slice(), mirrors.get(..1).unwrap_or_default()] {
                let apt = Apt {
                    dir: work.join("apt"),
                    debs: work.with_file_name("debs"),
                    suite: candidate.to_owned(),
                };
                let fetched = match extra {
                    Some(extra) => {
                        apt.fetch_lists(mirrors, &format!("main {extra}"))
                            .or_else(|error| {
                                say(&format!("component {extra} is not to be had: {error:#}"));
                                apt.fetch_lists(mirrors, "main")
                            })
                    }
                    None => apt.fetch_lists(mirrors, "main"),
                };
                match fetched {
                    Ok(()) => {
                        for reason in reasons {
                            say(&format!(
                                "{reason}; using {candidate} from {} source(s)",
                                mirrors.len()
                            ));
                        }
                        return Ok(apt);
                    }
                    Err(error) => reasons.push(format!("{candidate} is not to be had: {error:#}")),
                }
            }
        }
        bail!("{}", reasons.join("; "))
    }

    /// The suite in use.
    pub(crate) fn suite(&self) -> &str {
        &self.suite
    }

    /// Downloads `names` (a meta package stands for what it depends on: a kernel) and every library package that
    /// they depend on, directly or not.
    pub(crate) fn download(&self, names: &[String]) -> Result<Vec<Package>> {
        let mut wanted = BTreeSet::new();
        let mut roots = Vec::new();
        for name in names {
            if name.starts_with("linux-image-") {
                wanted.insert(self.kernel(name)?);
            } else {
                wanted.insert(name.clone());
                roots.push(name.as_str());
            }
        }
        let closure = self.closure(&roots)?;
        let known = self.show(closure.iter().chain(&wanted))?;
        wanted.extend(closure.into_iter().filter(|name| {
            known
                .get(name)
                .is_some_and(|package| package.section == "libs")
        }));
        let downloads = &self.debs;
        std::fs::create_dir_all(downloads)
            .with_context(|| format!("creating {}", downloads.display()))?;
        run(self
            .command("apt-get")
            .current_dir(downloads)
            .arg("download")
            .args(&wanted))?;
        let mut packages = Vec::new();
        for name in wanted {
            let mut package = known
                .get(&name)
                .cloned()
                .with_context(|| format!("package {name} is unknown"))?;
            // apt writes the epoch's colon as %3a.
            let start = format!("{name}_{}_", package.version.replace(':', "%3a"));
            package.deb = std::fs::read_dir(downloads)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .find(|path| {
                    path.file_name()
                        .is_some_and(|file| file.to_string_lossy().starts_with(&start))
                })
                .with_context(|| {
                    format!(
                        "apt-get download left no {start}*.deb in {}",
                        downloads.display()
                    )
                })?;
            packages.push(package);
        }
        Ok(packages)
    }

    /// Those of `names` that the lists have.
    pub(crate) fn known(&self, names: &[String]) -> Result<BTreeSet<String>> {
        let text = run(self.command("apt-cache").arg("pkgnames"))?;
        let all: BTreeSet<&str> = text.lines().map(str::trim).collect();
        let known = names.iter().filter(|name| all.contains(name.as_str()));
        Ok(known.cloned().collect())
    }

    fn fetch_lists(&self, mirrors: &[Mirror], components: &str) -> Result<()> {
        std::fs::create_dir_all(self.dir.join("state/lists/partial"))?;
        std::fs::create_dir_all(self.dir.join("cache/archives/partial"))?;
        std::fs::write(self.dir.join("status"), "")?;
        std::fs::write(
            self.dir.join("image.sources"),
            sources::render(mirrors, &self.suite, components),
        )?;
        run(self
            .command("apt-get")
            .args(["-o", "APT::Update::Error-Mode=any", "-q", "update"]))
        .map(drop)
    }

    /// The real package behind a kernel meta package.
    fn kernel(&self, meta: &str) -> Result<String> {
        let text = run(self.command("apt-cache").args(["depends", meta]))?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
            .with_context(|| format!("{meta} depends on no linux-image package"))
    }

    fn closure(&self, names: &[&str]) -> Result<Vec<String>> {
        let text = run(self
            .command("apt-get")
            .args([
                "--print-uris",
                "-qq",
                "-y",
                "--no-install-recommends",
                "install",
            ])
            .args(names))?;
        // 'URI' FILE SIZE HASH, where FILE is NAME_VERSION_ARCH.deb
        let names = text
            .lines()
            .filter(|line| line.starts_with('\''))
            .filter_map(|line| {
                let file = line.split_whitespace().nth(1)?;
                Some(file.split_once('_')?.0.to_owned())
            });
        Ok(names.collect())
    }

    fn show<'a>(
        &self,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<BTreeMap<String, Package>> {
        let text = run(self
            .command("apt-cache")
            .args(["--no-all-versions", "show"])
            .args(names))?;
        let mut known = BTreeMap::new();
        for stanza in text.split("\n\n") {
            let field = |name: &str| {
                stanza
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                    .unwrap_or_default()
            };
            let package = Package {
                name: field("Package").to_owned(),
                version: field("Version").to_owned(),
                section: field("Section").to_owned(),
                deb: PathBuf::new(),
            };
            known.insert(package.name.clone(), package);
        }
        Ok(known)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let dir = self.dir.display();
        for option in [
            format!("Dir::State={dir}/state"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}/cache"),
            format!("Dir::Etc::sourcelist={dir}/image.sources"),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferences=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            "APT::Architecture=amd64".into(),
            "APT::Architectures::=amd64".into(),
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C");
        command
    }
}

/// Runs a host program, gives its standard output, and puts the end of its standard error into the error.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("running {program} (Debian packages: apt, dpkg, kmod)"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = stderr.lines().rev().take(3).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    ensure!(
        output.status.success(),
        "{program} failed ({}): {}",
        output.status,
        tail.join(" / ")
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// VERSION_CODENAME of the host: `bookworm`, `trixie`, ….
fn host_codename() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release has no VERSION_CODENAME: not a Debian release")
}
