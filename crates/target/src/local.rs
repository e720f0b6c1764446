//! `-o local`: `NAME-sda`, … and `NAME.xml` in a folder. Nothing is defined anywhere, so networks are not looked
//! up either: the files may be meant for another host.

use std::path::Path;

use image::BlockSink;

use crate::domain::{self, DomainSpec};
use crate::name::CleanName;
use crate::scratch::Sharing;
use crate::stage::Stage;
use crate::{Finished, Placed, Plan, Result, Target, TargetOptions};

#[derive(Debug)]
pub(crate) struct LocalTarget {
    stage: Stage,
}

impl LocalTarget {
    pub(crate) fn prepare(options: &TargetOptions, name: CleanName, dir: &Path) -> Result<Self> {
        Ok(Self {
            stage: Stage::prepare(options, name, dir, Sharing::Exclusive)?,
        })
    }

    fn place(&mut self, finished: &Finished<'_>) -> Result<Placed> {
        let stage = &self.stage;
        stage.expect_all_disks(finished)?;
        let mut names = stage.disk_names(finished.machine.disks.len())?;
        let disks = names.iter().map(|name| stage.dir.join(name)).collect();
        let built = domain::build(&DomainSpec::new(
            &stage.options,
            &stage.name,
            finished,
            disks,
        ))?;
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
