//! `-o local`: `NAME-sda`, … and `NAME.xml` in a folder. Nothing is defined anywhere, so networks are not looked
//! up either: the files may be meant for another host. For the same reason the XML names firmware of this host, and
//! variables for it, only if that was asked for (`-oo nvram`).

use std::path::Path;

use image::BlockSink;

use crate::domain::{self, DomainSpec};
use crate::firmware::Dirs;
use crate::name::CleanName;
use crate::scratch::Sharing;
use crate::stage::Stage;
use crate::{Finished, Placed, Plan, Result, Target, TargetOptions, nvram};

#[derive(Debug)]
pub(crate) struct LocalTarget {
    stage: Stage,
    nvram: bool,
}

impl LocalTarget {
    pub(crate) fn prepare(
        options: &TargetOptions,
        name: CleanName,
        dir: &Path,
        nvram: bool,
    ) -> Result<Self> {
        Ok(Self {
            stage: Stage::prepare(options, name, dir, Sharing::Exclusive)?,
            nvram,
        })
    }

    fn place(&mut self, finished: &Finished<'_>) -> Result<Placed> {
        let stage = &self.stage;
        stage.expect_all_disks(finished)?;
        let mut names = stage.disk_names(finished.machine.disks.len())?;
        let disks = names.iter().map(|name| stage.dir.join(name)).collect();
        let mut spec = DomainSpec::new(&stage.options, &stage.name, finished, disks);
        let note = match self.nvram {
            true => nvram::give(stage, finished, &Dirs::default(), &mut spec, &mut names)?,
            false => nvram::lost(&spec, finished, "-oo nvram writes it beside the disks")?,
        };
        let mut built = domain::build(&spec)?;
        built.notes.extend(note);
        // The XML comes last: who sees it sees the disks too.
        let xml = format!("{}.xml", stage.name);
        stage.write_file(&xml, &built.xml, 0o644)?;
        names.push(xml);
        let placement = stage.place(&names)?;
        Ok(Placed {
            files: placement.files(),
            domain: None,
            notes: built.notes,
        })
    }
}

impl Target for LocalTarget {
    fn check(&mut self, plan: &Plan<'_>) -> Result<()> {
        let mut names = self.stage.disk_names(plan.machine.disks.len())?;
        names.push(format!("{}.xml", self.stage.name));
        if self.nvram && nvram::may_be(plan) {
            names.push(nvram::file_name(&self.stage.name));
        }
        self.stage.refuse_taken(&names)?;
        self.stage.refuse_undescribable(plan)?;
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
        self.stage.conclude(result)
    }
}
