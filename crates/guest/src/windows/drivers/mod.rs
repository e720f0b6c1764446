//! virtio-win: the drivers at hand, and which of them suit this Windows.
//!
//! | file | what |
//! |---|---|
//! | `tree` | the host's directory or ISO in the payload |
//! | `inf` | .inf files |
//! | `release` | what directories are called |
//! | `signature` | processor and signature of a .sys and .cat |
//! | `choice` | which packages suit |
//! | `warnings` | what is said of it |

pub(crate) mod choice;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod inf;
pub(crate) mod release;
pub(crate) mod signature;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
mod warnings;

use types::BlockBus;

use crate::Result;
use crate::windows::caps::Hardware;
use crate::windows::convert::Context;
use choice::Wanted;
use inf::{Inf, Platform};
use tree::Tree;

/// Below this name the payload has the driver tree of the host.
pub(crate) const MEMBER: &str = "virtio-win";

/// What a driver is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// viostor: virtio-blk.
    Block,
    /// vioscsi: virtio-scsi.
    Scsi,
    /// netkvm.
    Net,
    /// vioser: virtio-serial.
    Serial,
    /// balloon.
    Balloon,
    /// viorng.
    Rng,
    /// vioinput.
    Input,
    /// viogpudo, qxldod, qxl.
    Display,
    /// pvpanic.
    Panic,
    /// fwcfg.
    FwCfg,
    /// viofs.
    Fs,
}

/// A driver package that suits this guest.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// What it is for.
    pub(crate) role: Role,
    /// Name of its .inf file, lower case: `viostor.inf`.
    pub(crate) inf_name: String,
    /// Its parsed .inf.
    pub(crate) inf: Inf,
    /// SHA-256 of the .inf, hexadecimal.
    pub(crate) inf_sha256: String,
    /// Members of the payload that belong to it, the .inf first.
    pub(crate) members: Vec<String>,
    /// The .inf says that it is for this very version; else it is the nearest older one.
    pub(crate) exact: bool,
}

impl Package {
    /// It drives one of these devices.
    pub(crate) fn drives(&self, platform: Platform, devices: &[&str]) -> bool {
        let models = self.inf.models(platform);
        let mut ids = models.iter().flat_map(|model| &model.ids);
        ids.any(|id| {
            let mut devices = devices.iter();
            devices.any(|device| choice::is_device(id, device))
        })
    }

    /// It drives virtio 1.0 devices, the only ones that PCI Express slots offer (QEMU's default for them).
    pub(crate) fn is_modern(&self, platform: Platform) -> bool {
        let models = self.inf.models(platform);
        let mut ids = models.iter().flat_map(|model| &model.ids);
        ids.any(|id| choice::is_modern_device(id))
    }

    /// The member of this file name, whatever its case.
    pub(crate) fn member(&self, file: &str) -> Option<&str> {
        let same = |member: &&String| {
            let name = member.rsplit('/').next().unwrap_or_default();
            name.eq_ignore_ascii_case(file)
        };
        self.members.iter().find(same).map(String::as_str)
    }
}

/// The chosen drivers, one for each device: pvpanic and displays may have two of their role, the better one first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// By role.
    pub(crate) packages: Vec<Package>,
    /// What the administrator should know of the choice.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// The one for this.
    pub(crate) fn role(&self, role: Role) -> Option<&Package> {
        self.packages.iter().find(|package| package.role == role)
    }
}

/// Chooses from the payload.
pub(crate) fn plan(context: &Context<'_>) -> Result<Plan> {
    let guest = context.guest;
    let name = if guest.product_name.is_empty() {
        "this Windows"
    } else {
        &guest.product_name
    };
    let mut tree = Tree::of(context.payload);
    let Some(platform) = Platform::of(context.windows, guest.arch) else {
        return Ok(Plan {
            packages: Vec::new(),
            warnings: vec![format!(
                "no virtio driver is made for the processor of {name}"
            )],
        });
    };
    let wanted = Wanted {
        platform,
        sha2: context.windows.sha2,
    };
    let wish = context.options.block_driver;
    Ok(plan_for(&mut tree, wanted, wish, name))
}

fn plan_for(tree: &mut Tree<'_>, wanted: Wanted, wish: Option<BlockBus>, name: &str) -> Plan {
    let choice = choice::choose(tree, wanted);
    let mut said = std::mem::take(&mut tree.warnings);
    said.extend(warnings::of(&choice, wanted, name));
    let packages = choice.candidates.into_iter();
    let plan = Plan {
        packages: packages.map(|candidate| candidate.package).collect(),
        warnings: Vec::new(),
    };
    let hardware = Hardware::of(&plan, wanted.platform, wish);
    let infs = (!tree.is_empty()).then_some(choice.infs);
    let mut warnings = Vec::new();
    warnings.extend(warnings::absent(&plan, hardware, wanted, infs, name));
    warnings.extend(warnings::wish(hardware, wish));
    warnings.extend(said);
    Plan { warnings, ..plan }
}
