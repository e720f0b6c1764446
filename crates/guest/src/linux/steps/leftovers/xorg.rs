//! xorg.conf(5): drivers of another hypervisor's graphics and mouse.

use crate::linux::convert::Context;
use crate::linux::steps::leftovers::text::{edit_with_backup, set_aside};
use crate::root::join;
use crate::{Result, Root};

const VIDEO: [&str; 6] = [
    "vmware",
    "vmwlegacy",
    "vboxvideo",
    "prlvideo",
    "hyperv_fb",
    "xen-fbfront",
];
const MOUSE: [&str; 3] = ["vmmouse", "vboxmouse", "prlmouse"];
/// Where the server keeps its modules.
const MODULES: [&str; 4] = [
    "/usr/lib64/xorg/modules",
    "/usr/lib/xorg/modules",
    "/usr/lib/x86_64-linux-gnu/xorg/modules",
    "/usr/lib/i386-linux-gnu/xorg/modules",
];
const WHY: &str = "the old machine's graphics and mouse do not exist any more";

pub(super) fn apply(context: &mut Context<'_>) -> Result<()> {
    let mut files = vec![
        "/etc/X11/xorg.conf".to_owned(),
        "/etc/X11/XF86Config".to_owned(),
    ];
    for dir in ["/etc/X11/xorg.conf.d", "/usr/share/X11/xorg.conf.d"] {
        let names = context.root.names(dir).into_iter();
        files.extend(
            names
                .filter(|name| name.ends_with(".conf"))
                .map(|name| join(dir, &name)),
        );
    }
    let video = if has_driver(context.root, "modesetting") {
        "modesetting"
    } else {
        "vesa"
    };
    let mouse = has_driver(context.root, "mouse");
    for path in files {
        // What a package installs goes with the package, and matches only the device that it is for.
        let own = path.starts_with("/etc/");
        let text = context.root.text(&path).unwrap_or_default();
        let drivers: Vec<String> = text.lines().filter_map(driver).collect();
        let names = |list: &[&str]| drivers.iter().any(|name| list.contains(&name.as_str()));
        if !own || !(names(&VIDEO) || names(&MOUSE)) || text.contains("MatchDriver") {
            continue;
        }
        if names(&MOUSE) && !mouse {
            // No driver takes the place of this one; a server without the file configures itself.
            set_aside(&mut context.recorder, &path, WHY)?;
        } else {
            edit_with_backup(&mut context.recorder, &path, WHY, |text| {
                Some(rewrite(text, video))
            })?;
        }
    }
    Ok(())
}

fn has_driver(root: &Root, name: &str) -> bool {
    MODULES.iter().any(|dir| {
        ["drivers", "input"]
            .iter()
            .any(|kind| root.is_file(&format!("{dir}/{kind}/{name}_drv.so")))
    })
}

/// Value of a line `Driver "value"`, in lower case.
fn driver(line: &str) -> Option<String> {
    let (key, value) = line.trim().split_once([' ', '\t'])?;
    if !key.eq_ignore_ascii_case("driver") {
        return None;
    }
    Some(value.split('"').nth(1)?.to_ascii_lowercase())
}

/// New drivers in the sections that name an old one; what else such a section of a graphics card says of the card is
/// made a comment, as a `BusID` of a card that is not there stops the server.
fn rewrite(text: &str, video: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = String::with_capacity(text.len());
    for section in lines.chunk_by(|line, _| !is_word(line, "EndSection")) {
        let old = section.iter().find_map(|line| driver(line));
        let is_video = old.as_deref().is_some_and(|name| VIDEO.contains(&name));
        let is_mouse = old.as_deref().is_some_and(|name| MOUSE.contains(&name));
        for line in section {
            let card = ["BusID", "VendorName", "BoardName", "ChipSet"];
            if (is_video || is_mouse) && driver(line).is_some() {
                let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
                let new = if is_video { video } else { "mouse" };
                out.push_str(&format!("{indent}Driver \"{new}\"\n"));
            } else if is_video && card.iter().any(|word| is_word(line, word)) {
                out.push_str("# v2v: ");
                out.push_str(line);
            } else {
                out.push_str(line);
            }
        }
    }
    out
}

fn is_word(line: &str, word: &str) -> bool {
    let first = line.split_whitespace().next();
    first.is_some_and(|first| first.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_of_another_card_gets_a_driver_and_loses_its_slot() {
        let old = "Section \"Device\"\n    Identifier \"Card0\"\n    Driver      \"vmware\"\n    BusID \"PCI:0:15:0\"\nEndSection\n\
                   Section \"InputDevice\"\n\tDriver \"kbd\"\nEndSection\n";
        let new = rewrite(old, "modesetting");
        assert_eq!(
            new,
            "Section \"Device\"\n    Identifier \"Card0\"\n    Driver \"modesetting\"\n# v2v:     BusID \"PCI:0:15:0\"\nEndSection\n\
             Section \"InputDevice\"\n\tDriver \"kbd\"\nEndSection\n"
        );
        assert_eq!(rewrite(&new, "modesetting"), new);
    }
}
