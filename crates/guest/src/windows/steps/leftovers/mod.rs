//! What the old hypervisor's tools left: services and filters off, programs removed at first boot.
//!
//! Offline first: a service or filter that cannot start any more must not be able to stop the boot, whatever becomes of
//! the uninstallers later.

mod offline;
mod products;
#[cfg(test)]
mod tests;
mod uninstall;

use crate::Result;
use crate::windows::convert::Context;
use crate::windows::steps::control_set::ControlSet;

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let disabled = offline::services(context)?;
    offline::filters(context, &disabled)?;
    offline::providers(context, &disabled)?;
    offline::hyperv(context)?;
    uninstall::plan(context);
    for product in products::PRODUCTS {
        let installed = context.windows.tools.iter();
        if disabled.has(product.kind) && !installed.clone().any(|tool| tool.kind == product.kind) {
            tracing::info!("{} has services, but no uninstaller", product.name);
        }
    }
    for product in disabled.products() {
        tracing::debug!("{product} was found");
    }
    agents(context)?;
    context
        .recorder
        .not_needed("no hypervisor's tools are installed");
    Ok(())
}

/// Names the agents of clouds, which are left as they are.
fn agents(context: &mut Context<'_>) -> Result<()> {
    let Some(set) = context.windows.control_sets.first() else {
        return Ok(());
    };
    let mut found: Vec<&str> = Vec::new();
    for (service, name) in products::AGENTS {
        let set = ControlSet::new(context.registry.system(), set);
        if set.has(&format!("Services\\{service}"))? && !found.contains(name) {
            found.push(name);
        }
    }
    if !found.is_empty() {
        context.recorder.warn(format!(
            "{} is left as it is: uninstall it if it is not wanted here",
            found.join(", ")
        ));
    }
    Ok(())
}
