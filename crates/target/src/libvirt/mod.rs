//! `-o libvirt`: disks in a directory pool (or a folder), the domain defined. On this host it gets a file of firmware
//! variables beside the disks where the guest's firmware had a boot menu; what firmware another host has is not known.
//!
//! ```text
//! local:   scratch folder in the pool ── rename ──> NAME-sda … ── define ──> pool-refresh
//! remote:  scratch folder in $TMPDIR  ── vol-create, vol-upload ──> NAME-sda … ── define
//! ```
//!
//! If `define` fails, what had got its final name is removed again. A domain that exists is never touched.

mod capabilities;
mod checks;
mod pool;
mod remote;
mod virsh;

use std::path::{Path, PathBuf};

use image::BlockSink;

use crate::domain::{self, BuiltDomain, DomainSpec};
use crate::firmware::Dirs;
use crate::name::CleanName;
use crate::null::temp_dir;
use crate::scratch::Sharing;
use crate::stage::Stage;
use crate::{
    Error, ErrorKind, Finished, Placed, Plan, Result, Target, TargetOptions, nvram, space,
};
use capabilities::Offers;
use pool::Pool;
use remote::Uploads;
use virsh::Virsh;

/// The pool that is used when none is named, as in virt-v2v.
pub(crate) const DEFAULT_POOL: &str = "default";

/// What `-os` names: a folder, or else a pool, whose name cannot contain `/`.
pub(crate) fn is_dir(pool_or_dir: &str) -> bool {
    pool_or_dir.contains('/')
}

#[derive(Debug)]
pub(crate) struct LibvirtTarget {
    stage: Stage,
    virsh: Virsh,
    destination: Destination,
    /// Found by the last check.
    check_notes: Vec<String>,
    /// Found by the last check.
    offers: Offers,
}

#[derive(Debug)]
enum Destination {
    /// The stage's folder, which is that of a pool if one is named.
    Folder { pool: Option<String> },
    /// A pool of another host.
    Remote { pool: Pool },
}

impl LibvirtTarget {
    pub(crate) fn prepare(
        options: &TargetOptions,
        name: CleanName,
        pool_or_dir: Option<&str>,
        uri: Option<&str>,
    ) -> Result<Self> {
        let virsh = Virsh::connect(uri.map(str::to_owned))?;
        let wanted = pool_or_dir.unwrap_or(DEFAULT_POOL);
        let (stage, destination) = match (virsh.uri().remote, is_dir(wanted)) {
            (true, true) => {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!(
                        "{} is another host: expected the name of a storage pool, found `{wanted}`",
                        virsh.label()
                    ),
                )
                .with_hint("name a directory pool of that host with -os"));
            }
            (true, false) => {
                let pool = Pool::find(&virsh, wanted)?;
                let stage = Stage::prepare(options, name, &temp_dir(), Sharing::Shared)?;
                (stage, Destination::Remote { pool })
            }
            (false, true) => {
                let stage = Stage::prepare(options, name, Path::new(wanted), Sharing::Exclusive)?;
                (stage, Destination::Folder { pool: None })
            }
            (false, false) => {
                let pool = Pool::find(&virsh, wanted)?;
                let stage = Stage::prepare(options, name, &pool.path, Sharing::Exclusive)?;
                (
                    stage,
                    Destination::Folder {
                        pool: Some(pool.name),
                    },
                )
            }
        };
        Ok(Self {
            stage,
            virsh,
            destination,
            check_notes: Vec::new(),
            offers: Offers { tpm: true },
        })
    }

    fn place(&mut self, finished: &Finished<'_>) -> Result<Placed> {
        self.stage.expect_all_disks(finished)?;
        let names = self.stage.disk_names(finished.machine.disks.len())?;
        let (files, built) = match &self.destination {
            Destination::Folder { .. } => self.place_here(finished, names)?,
            Destination::Remote { pool } => self.place_there(finished, &names, pool)?,
        };
        let mut notes = std::mem::take(&mut self.check_notes);
        notes.extend(built.notes);
        Ok(Placed {
            files,
            domain: Some(self.stage.name.clone()),
            notes,
        })
    }

    fn place_here(
        &self,
        finished: &Finished<'_>,
        mut names: Vec<String>,
    ) -> Result<(Vec<PathBuf>, BuiltDomain)> {
        let paths = names.iter().map(|name| self.stage.dir.join(name)).collect();
        let mut spec = self.spec(finished, paths);
        let dirs = Dirs::default();
        let note = nvram::give(&self.stage, finished, &dirs, &mut spec, &mut names)?;
        let mut built = domain::build(&spec)?;
        built.notes.extend(note);
        let placement = self.stage.place(&names)?;
        match self.define(&built) {
            Ok(()) => Ok((placement.files(), built)),
            Err(error) => Err(placement.take_back(error)),
        }
    }

    fn place_there(
        &self,
        finished: &Finished<'_>,
        names: &[String],
        pool: &Pool,
    ) -> Result<(Vec<PathBuf>, BuiltDomain)> {
        let mut uploads = Uploads::new(&self.virsh, pool);
        let mut work = || {
            let upload = |name: &String| {
                tracing::info!(volume = %name, pool = %pool.name, "uploading");
                uploads.upload(&self.stage, name)
            };
            let paths: Vec<PathBuf> = names.iter().map(upload).collect::<Result<_>>()?;
            let spec = self.spec(finished, paths.clone());
            let mut built = domain::build(&spec)?;
            let why = "what firmware another host has is not known here";
            built.notes.extend(nvram::lost(&spec, finished, why)?);
            self.define(&built)?;
            Ok((paths, built))
        };
        let result = work();
        result.map_err(|error| uploads.take_back(error))
    }

    fn spec<'a>(&'a self, finished: &Finished<'a>, paths: Vec<PathBuf>) -> DomainSpec<'a> {
        let spec = DomainSpec::new(&self.stage.options, &self.stage.name, finished, paths);
        DomainSpec {
            tpm_emulator: self.offers.tpm,
            ..spec
        }
    }

    fn define(&self, built: &BuiltDomain) -> Result<()> {
        let file = format!("{}.xml", self.stage.name);
        self.stage.write_file(&file, &built.xml, 0o600)?;
        let path = self.stage.waiting(&file);
        self.virsh
            .run(&["define", &format!("--file={}", path.display())])
            .map(drop)
            .map_err(|error| {
                Error::new(
                    ErrorKind::Command,
                    format!("libvirt at {} refused the domain", self.virsh.label()),
                )
                .caused_by(error)
            })
    }
}

impl Target for LibvirtTarget {
    fn check(&mut self, plan: &Plan<'_>) -> Result<()> {
        checks::refuse_taken_domain(&self.virsh, &self.stage.name)?;
        let mut names = self.stage.disk_names(plan.machine.disks.len())?;
        self.check_notes = checks::networks(&self.virsh, plan.machine)?;
        self.offers = capabilities::check(&self.virsh, plan, self.stage.options.domain_type)?;
        self.stage.refuse_undescribable(plan)?;
        if let Destination::Remote { pool } = &self.destination {
            remote::refuse_taken_volumes(&self.virsh, pool, &names)?;
            if let Some(available) = pool.available {
                let needed = space::needed(plan, self.stage.options.preallocation);
                space::refuse_shortage(needed, available, &format!("the pool `{}`", pool.name))?;
            }
        } else {
            if nvram::may_be(plan) {
                names.push(nvram::file_name(&self.stage.name));
            }
            self.stage.refuse_taken(&names)?;
        }
        // The folder takes the result, or its copy before the upload.
        self.stage.refuse_shortage(plan)
    }

    fn scratch_dir(&self) -> &Path {
        self.stage.scratch_dir()
    }

    fn create_disk(&mut self, index: u32, virtual_size: u64) -> Result<Box<dyn BlockSink>> {
        self.stage.create_disk(index, virtual_size)
    }

    fn finalise(&mut self, finished: &Finished<'_>) -> Result<Placed> {
        let result = self.place(finished);
        let mut placed = self.stage.conclude(result)?;
        let pool = match &self.destination {
            Destination::Folder { pool } => pool.as_deref(),
            Destination::Remote { pool } => Some(pool.name.as_str()),
        };
        // Only now, so that the scratch folder is not listed as a volume.
        if let Some(pool) = pool
            && let Err(error) = self.virsh.run(&["pool-refresh", &format!("--pool={pool}")])
        {
            placed
                .notes
                .push(format!("the pool `{pool}` could not be refreshed: {error}"));
        }
        Ok(placed)
    }
}
