//! What the .inf says of a storage driver.

use types::Guid;

use super::add_reg::{self, Setting};
use super::names;
use crate::windows::drivers::Package;
use crate::windows::drivers::inf::{Inf, Line, Model, Platform};
use crate::{Error, Result};

/// SERVICE_KERNEL_DRIVER (winnt.h).
const KERNEL_DRIVER: u32 = 1;
/// SPSVCINST_ASSOCSERVICE (setupapi.h): the service is the device's function driver.
const FUNCTION_DRIVER: u32 = 2;
/// Highest of SERVICE_ERROR_* (winnt.h).
const ERROR_MAX: u32 = 3;
/// More models of one driver are refused; those of virtio-win have at most 4.
const MODELS_MAX: usize = 64;

/// A driver, everything of it checked.
#[derive(Clone, Debug)]
pub(super) struct Driver {
    /// The package that it comes from.
    pub(super) package: Package,
    /// The guest's platform.
    pub(super) platform: Platform,
    /// Name of the service.
    pub(super) service: String,
    /// Its name for people.
    pub(super) display: Option<String>,
    /// ErrorControl.
    pub(super) error_control: u32,
    /// Load order group.
    pub(super) group: Option<String>,
    /// File name of the .sys.
    pub(super) file: String,
    /// Below the service's key.
    pub(super) settings: Vec<Setting>,
    /// Below its source in the event log.
    pub(super) events: Vec<Setting>,
    /// Below the device's key.
    pub(super) device: Vec<Setting>,
    /// The install section as it is named in the file: `scsi_inst`, `Install.NT`.
    pub(super) section: String,
    /// Devices, their ids checked.
    pub(super) models: Vec<Model>,
    /// ClassGuid, lower case with braces.
    pub(super) class_guid: String,
    /// Provider.
    pub(super) provider: String,
    /// Name of the manufacturer.
    pub(super) manufacturer: String,
    /// Name of the .inf, lower case.
    pub(super) inf_name: String,
    /// Date as (year, month, day) and version.
    pub(super) version: ((u16, u16, u16), [u16; 4]),
}

impl Driver {
    /// Reads and checks the package's .inf. Nothing is changed when it is refused.
    pub(super) fn read(package: &Package, platform: Platform) -> Result<Self> {
        Self::checked(package, platform).map_err(|error| error.at(&package.inf_name))
    }

    fn checked(package: &Package, platform: Platform) -> Result<Self> {
        let inf = &package.inf;
        let models = models(inf, platform)?;
        let install = models.first().map_or("", |model| &model.install);
        let section = install_section(inf, install, platform)?;
        let service = function_driver(inf, &section, install)?;
        let (binary, install_service) = (
            names::plain("a service", field(service, 0))?,
            field(service, 2),
        );
        let value = |key: &str| first(inf, install_service, key);
        if add_reg::number(value("ServiceType").unwrap_or("1"))? != KERNEL_DRIVER {
            return Err(Error::corrupt("expected a kernel driver (ServiceType 1)"));
        }
        let error_control = add_reg::number(value("ErrorControl").unwrap_or("1"))?.min(ERROR_MAX);
        let optional = |text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty());
            text.map(|text| names::text("a name", text)).transpose()
        };
        let hardware = decorated(inf, &section, install, "HW");
        let class_guid = inf.class_guid().filter(|guid| Guid::is_braced(guid));
        Ok(Self {
            service: binary,
            display: optional(value("DisplayName"))?,
            error_control,
            group: optional(value("LoadOrderGroup"))?,
            file: binary_name(value("ServiceBinary"))?,
            settings: add_reg::read(inf, all(inf, install_service, "AddReg"))?,
            events: add_reg::read(inf, all(inf, field(service, 3), "AddReg"))?,
            device: add_reg::read(
                inf,
                hardware.iter().flat_map(|name| all(inf, name, "AddReg")),
            )?,
            section,
            models,
            class_guid: class_guid
                .ok_or_else(|| Error::corrupt("expected ClassGuid in [Version]"))?,
            provider: optional(inf.provider().as_deref())?.unwrap_or_default(),
            manufacturer: optional(manufacturer(inf))?.unwrap_or_default(),
            inf_name: names::file(
                "the name of an .inf",
                &package.inf_name.to_lowercase(),
                "inf",
            )?,
            version: inf
                .driver_ver()
                .ok_or_else(|| Error::corrupt("expected DriverVer in [Version]"))?,
            package: package.clone(),
            platform,
        })
    }

    /// Every id once, with its place: 0 is a hardware id, above it the compatible ids in their order.
    pub(super) fn ids(&self) -> Vec<(&str, usize)> {
        let mut ids: Vec<(&str, usize)> = Vec::new();
        for model in &self.models {
            for (place, id) in model.ids.iter().enumerate() {
                match ids
                    .iter_mut()
                    .find(|(known, _)| known.eq_ignore_ascii_case(id))
                {
                    Some((_, best)) => *best = place.min(*best),
                    None => ids.push((id, place)),
                }
            }
        }
        ids
    }

    /// `%TOKEN%` of [Strings] that stands for this text, lower case as the driver database has it; the text itself where
    /// there is none.
    pub(super) fn token(&self, text: &str) -> Option<String> {
        let strings = self.package.inf.section("Strings")?;
        let same = |line: &&Line| line.fields.join(",") == text;
        let line = strings.lines.iter().find(same)?;
        let token = line.key.as_deref()?.to_lowercase();
        names::text("a string's name", &token).ok()
    }
}

/// Models that have a service to drive them, all in the install section of the first.
fn models(inf: &Inf, platform: Platform) -> Result<Vec<Model>> {
    let mut models = inf.models(platform);
    let Some(install) = models.first().map(|model| model.install.clone()) else {
        return Err(Error::corrupt("expected models for this Windows"));
    };
    models.retain(|model| model.install.eq_ignore_ascii_case(&install));
    if models.len() > MODELS_MAX || models.iter().any(|model| model.ids.len() > MODELS_MAX) {
        return Err(Error::corrupt(format!(
            "expected at most {MODELS_MAX} models"
        )));
    }
    for model in &mut models {
        names::text("a device's name", &model.description)?;
        for id in &mut model.ids {
            *id = names::device_id(id)?;
        }
    }
    Ok(models)
}

/// As the model spells it, with the decoration that is used.
fn install_section(inf: &Inf, install: &str, platform: Platform) -> Result<String> {
    let name = inf.install_section(install, platform);
    let name = name.ok_or_else(|| Error::corrupt("expected the install section of a model"))?;
    let decoration = name.get(install.len()..).unwrap_or_default();
    let spelled = format!("{install}{decoration}");
    let section = if spelled.eq_ignore_ascii_case(&name) {
        spelled
    } else {
        name
    };
    names::key(&section).and_then(|section| match section.contains('\\') {
        true => Err(Error::corrupt(
            "expected an install section without backslashes",
        )),
        false => Ok(section),
    })
}

/// `SECTION.WHAT`, or that of the section without decoration.
fn decorated(inf: &Inf, section: &str, install: &str, what: &str) -> Option<String> {
    [section, install]
        .into_iter()
        .map(|name| format!("{name}.{what}"))
        .find(|name| inf.section(name).is_some())
}

/// The AddService line of the device's own driver.
fn function_driver<'i>(inf: &'i Inf, section: &str, install: &str) -> Result<&'i Line> {
    let services = decorated(inf, section, install, "Services");
    let services = services.and_then(|name| inf.section(&name));
    let is_function = |line: &&Line| {
        let key = line.key.as_deref().unwrap_or_default();
        let flags = add_reg::number(field(line, 1)).unwrap_or(0);
        key.eq_ignore_ascii_case("AddService") && flags & FUNCTION_DRIVER != 0
    };
    services
        .and_then(|section| section.lines.iter().find(is_function))
        .ok_or_else(|| Error::corrupt("expected AddService of the device's driver"))
}

/// Name of the file of `%12%\NAME.sys`; wherever the .inf puts it, here it goes to System32\drivers.
fn binary_name(binary: Option<&str>) -> Result<String> {
    let binary = binary.ok_or_else(|| Error::corrupt("expected ServiceBinary of the driver"))?;
    let (dir, file) = binary.rsplit_once('\\').unwrap_or(("", binary));
    let known = ["%12%", "%13%", "%10%\\system32\\drivers", "%11%\\drivers"];
    if !known.iter().any(|own| dir.eq_ignore_ascii_case(own)) {
        let shown: String = dir.chars().take(64).collect();
        return Err(Error::corrupt(format!(
            "expected ServiceBinary in %12% (System32\\drivers), found {shown:?}"
        )));
    }
    names::file("the name of a driver", file, "sys")
}

/// The first key of [Manufacturer].
fn manufacturer(inf: &Inf) -> Option<&str> {
    let section = inf.section("Manufacturer")?;
    section.lines.iter().find_map(|line| line.key.as_deref())
}

fn field(line: &Line, at: usize) -> &str {
    line.fields.get(at).map_or("", |field| field.trim())
}

/// First field of the first line with this key.
fn first<'i>(inf: &'i Inf, section: &str, key: &str) -> Option<&'i str> {
    all(inf, section, key).next()
}

/// Fields of all lines with this key.
fn all<'i>(inf: &'i Inf, section: &str, key: &str) -> impl Iterator<Item = &'i str> {
    let lines = inf
        .section(section)
        .map_or(&[][..], |section| &section.lines);
    let key = key.to_lowercase();
    lines
        .iter()
        .filter(move |line| {
            line.key
                .as_deref()
                .is_some_and(|own| own.eq_ignore_ascii_case(&key))
        })
        .flat_map(|line| line.fields.iter().map(|field| field.trim()))
}
