//! An agent's inventory and wish as the machine that is converted.

use types::Machine;
use wire::inventory::Inventory;
use wire::session::Wish;

/// The machine as the stages and the target see it, with the disks of the wish in its order.
pub fn machine(inventory: &Inventory, wish: &Wish) -> Machine {
    let _ = (inventory, wish);
    unimplemented!("skeleton")
}
