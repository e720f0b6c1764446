//! `-o qemu`: `NAME-sda`, … and `NAME.sh` in a folder, a script that starts the guest with plain QEMU; with it `NAME_VARS.fd`
//! where the guest's firmware had a boot menu.

mod script;

use std::path::Path;

use image::BlockSink;
use types::Firmware;

use crate::domain::DomainSpec;
use crate::hostcmd::HostCmd;
use crate::name::CleanName;
use crate::scratch::Sharing;
use crate::stage::Stage;
use crate::{Finished, Placed, Plan, Result, Target, TargetOptions, nvram};

#[derive(Debug)]
pub(crate) struct QemuTarget {
    stage: Stage,
    boot: bool,
}

impl QemuTarget {
    pub(crate) fn prepare(
        options: &TargetOptions,
        name: CleanName,
        dir: &Path,
        boot: bool,
    ) -> Result<Self> {
        Ok(Self {
            stage: Stage::prepare(options, name, dir, Sharing::Exclusive)?,
            boot,
        })
    }

    fn script_name(&self) -> String {
        format!("{}.sh", self.stage.name)
    }

    fn place(&mut self, finished: &Finished<'_>) -> Result<Placed> {
        let stage = &self.stage;
        stage.expect_all_disks(finished)?;
        let mut names = stage.disk_names(finished.machine.disks.len())?;
        let paths = names.iter().map(|name| stage.dir.join(name)).collect();
        let spec = DomainSpec::new(&stage.options, &stage.name, finished, paths);
        let mut built = script::build(&spec, &names)?;
        let (variables, options) = (nvram::file_name(&stage.name), finished.boot_options);
        if built.platform.firmware == Firmware::Uefi && !options.is_empty() {
            match script::nvram(built.platform, options) {
                Ok(content) => {
                    stage.write_file(&variables, content, 0o644)?;
                    names.push(variables);
                }
                Err(why) => built.notes.extend(nvram::left_out(options, &why)),
            }
        }
        stage.write_file(&self.script_name(), &built.text, 0o755)?;
        names.push(self.script_name());
        let placement = stage.place(&names)?;
        Ok(Placed {
            files: placement.files(),
            domain: None,
            notes: built.notes,
        })
    }
}

impl Target for QemuTarget {
    fn check(&mut self, plan: &Plan<'_>) -> Result<()> {
        let mut names = self.stage.disk_names(plan.machine.disks.len())?;
        names.push(self.script_name());
        if nvram::may_be(plan) {
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
        let mut placed = self.stage.conclude(result)?;
        if self.boot {
            // The result stands whatever becomes of the trial.
            let script = self.stage.dir.join(self.script_name());
            match HostCmd::new(&script, "qemu-system-x86").interactive() {
                Ok(true) => {}
                Ok(false) => placed
                    .notes
                    .push(format!("{} ended with a failure", script.display())),
                Err(error) => placed.notes.push(format!(
                    "{error} failed: start {} by hand",
                    script.display()
                )),
            }
        }
        Ok(placed)
    }
}
