//! What a job is told: the options of the server, of the machine and of the approval, made into a [`Conversion`].

use convert::{Conversion, RootChoice};
use prost::Message;
use wire::inventory::Inventory;
use wire::session::Wish;

use super::naming::{generated_name, safe_name, safe_network};
use super::options::{self, Opt};
use super::{Jobs, Live};
use crate::store::{Documents, JobRow};
use crate::{JobId, JobState, Result};

/// Output options that a machine may ask for.
const WISHES: &[&str] = &["o", "oa", "oc", "of", "on", "oo", "os"];

/// Inventory and wish of a job, decoded.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) inventory: Inventory,
    pub(super) wish: Wish,
}

impl Told {
    /// Both were checked when they came; what cannot be read is empty.
    pub(super) fn read(documents: &Documents) -> Self {
        Self {
            inventory: Inventory::decode(documents.inventory.as_slice()).unwrap_or_default(),
            wish: Wish::decode(documents.wish.as_slice()).unwrap_or_default(),
        }
    }
}

impl Jobs {
    /// Inventory and wish of a job.
    pub(super) fn told(&self, id: JobId) -> Result<Told> {
        Ok(self
            .store
            .documents(id)?
            .map(|documents| Told::read(&documents))
            .unwrap_or_default())
    }

    /// All options of a job in order of strength, merged. `approval` are its own.
    pub(super) fn merged_options(&self, row: &JobRow, told: &Told, approval: Vec<Opt>) -> Vec<Opt> {
        let server = options::parse(&self.config.options);
        let wished = safe_name(&told.wish.name);
        let name = if wished.is_empty() {
            self.unused_name(row, &generated_name(&told.inventory))
        } else {
            wished
        };
        let mut machine = vec![Opt::new("on", name)];
        if self.config.agents_choose_output {
            machine.extend(wished_output(&told.wish));
        }
        machine.extend(wished_networks(told));
        options::merge(&[server, machine, approval])
    }

    /// Two machines of one model without serials must not be one guest.
    fn unused_name(&self, row: &JobRow, name: &str) -> String {
        let lives = |other: &JobRow| !matches!(other.state, JobState::Failed | JobState::Cancelled);
        let taken = self.store.jobs().unwrap_or_default().iter().any(|other| {
            other.id < row.id
                && other.name == name
                && other.machine_id != row.machine_id
                && lives(other)
        });
        if taken {
            format!("{name}-{}", row.id)
        } else {
            name.to_owned()
        }
    }

    /// The options that a job was given itself, secrets with them.
    pub(super) fn approval_options(live: &Live) -> Vec<Opt> {
        let stored = options::parse(&live.row.options);
        options::merge(&[stored, live.secret_options.clone()])
    }

    /// Writes down what the options come to: name and what people see.
    pub(super) fn note_options(&self, live: &mut Live, told: &Told) {
        let merged = self.merged_options(&live.row, told, Self::approval_options(live));
        live.row.effective = options::shown(&merged);
        if let Some(name) = options::value_of(&merged, "on") {
            name.clone_into(&mut live.row.name);
        }
    }

    /// Reads options as the command line would. The error is one line.
    pub(super) fn conversion(
        &self,
        merged: &[Opt],
        keys: &[(String, Vec<u8>)],
    ) -> Result<Conversion, String> {
        let mut conversion = (self.config.parse)(&options::words(merged))?;
        // Nobody sits at a server's terminal.
        if conversion.root == RootChoice::Ask {
            conversion.root = RootChoice::Single;
        }
        conversion.name = options::value_of(merged, "on").map(str::to_owned);
        conversion
            .keys
            .extend(keys.iter().map(|(id, secret)| appliance::Key {
                id: id.clone(),
                secret: secret.clone(),
            }));
        Ok(conversion)
    }
}

fn wished_output(wish: &Wish) -> Vec<Opt> {
    let known = |option: &&wire::session::OutputOption| {
        WISHES.contains(&option.name.as_str()) && !option.value.contains(char::is_control)
    };
    wish.output
        .iter()
        .filter(known)
        .map(|option| match option.name.as_str() {
            "on" => Opt::new("on", safe_name(&option.value)),
            name => Opt::new(name, option.value.as_str()),
        })
        .filter(|option| options::value_of(std::slice::from_ref(option), "on") != Some(""))
        .collect()
}

fn wished_networks(told: &Told) -> Vec<Opt> {
    let mut rules = Vec::new();
    for wish in &told.wish.networks {
        let Some(network) = safe_network(&wish.network) else {
            continue;
        };
        if wish.interface.is_empty() {
            rules.push(Opt::new("network", network));
            continue;
        }
        let chosen = chosen_nics(told)
            .find(|(_, nic)| nic.name == wish.interface || nic.kernel_name == wish.interface);
        if let Some((_, nic)) = chosen
            && nic.mac.parse::<types::MacAddr>().is_ok()
        {
            rules.push(Opt::new("mac", format!("{}:network:{network}", nic.mac)));
        }
    }
    rules
}

/// The interfaces that the guest gets: those of the wish, or all.
pub(super) fn chosen_nics(told: &Told) -> impl Iterator<Item = (usize, &wire::inventory::Nic)> {
    let chosen = &told.wish.interfaces;
    told.inventory.nics.iter().enumerate().filter(|(place, _)| {
        chosen.is_empty() || chosen.iter().any(|wanted| *wanted as usize == *place)
    })
}
