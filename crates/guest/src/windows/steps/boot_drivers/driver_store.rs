//! Files of a driver package where Windows keeps them: the folder in FileRepository, the published .inf and catalog.

use super::binary;
use super::driver::Driver;
use super::names;
use crate::Result;
use crate::windows::convert::Context;
use crate::windows::files;

/// Subsystem of the catalogs of drivers (DRIVER_ACTION_VERIFY, softpub.h).
const CATALOGS: &str = "System32/CatRoot/{F750E6C3-38EE-11D1-85E5-00C04FC295EE}";
const REPOSITORY: &str = "System32/DriverStore/FileRepository";
/// Publishers as catalogs of virtio-win name them, with SIGNERSCORE_* of setupapi.h: WHQL and AUTHENTICODE.
const SIGNERS: [(&str, u32); 2] = [
    (
        "Microsoft Windows Hardware Compatibility Publisher",
        0x0d00_0005,
    ),
    ("Red Hat, Inc.", 0x0f00_0000),
];
/// Digits of the folder's name.
const DIGITS: usize = 16;

/// Name of the package's folder: `viostor.inf_amd64_0123456789abcdef`.
pub(super) fn folder(driver: &Driver) -> String {
    let hash = &driver.package.inf_sha256;
    let digits: String = hash
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(DIGITS)
        .collect();
    format!(
        "{}_{}_{digits:0<DIGITS$}",
        driver.inf_name, driver.platform.arch
    )
}

/// Name of the catalog, if the package has it.
pub(super) fn catalog(driver: &Driver) -> Result<Option<String>> {
    let name = driver.package.inf.catalog(driver.platform);
    let name = name.map(|name| names::file("the name of a catalog", &name, "cat"));
    let name = name.transpose()?;
    Ok(name.filter(|name| driver.package.member(name).is_some()))
}

/// Who signed the package, with the score that Windows gives for it; `None` where the catalog does not say it plainly.
pub(super) fn signer(context: &Context<'_>, driver: &Driver) -> Option<(String, u32)> {
    let catalog = catalog(driver).ok().flatten()?;
    let content = binary::read(context, driver, &catalog).ok()?;
    let is_in = |name: &str| {
        let narrow = name.as_bytes();
        let wide: Vec<u8> = name.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let found = |text: &[u8]| content.windows(text.len()).any(|part| part == text);
        found(narrow) || found(&wide)
    };
    let (name, score) = SIGNERS.iter().find(|(name, _)| is_in(name))?;
    Some(((*name).to_owned(), *score))
}

/// Reads all that will be copied, so that nothing is changed when a file is missing.
pub(super) fn check(context: &Context<'_>, driver: &Driver) -> Result<()> {
    let files = package_files(driver)?.into_iter().chain(catalog(driver)?);
    for file in files {
        binary::read(context, driver, &file)?;
    }
    Ok(())
}

/// Puts the package's files in place; their size together.
pub(super) fn install(
    context: &mut Context<'_>,
    driver: &Driver,
    own: &str,
    oem: &str,
) -> Result<u64> {
    let why = format!(
        "the package of {} that Windows installs from",
        driver.service
    );
    let mut bytes = 0;
    for file in package_files(driver)? {
        let content = binary::read(context, driver, &file)?;
        bytes += content.len() as u64;
        write(
            context,
            &format!("{REPOSITORY}/{own}/{file}"),
            &content,
            &why,
        )?;
        if file.eq_ignore_ascii_case(&driver.inf_name) {
            write(context, &format!("INF/{oem}"), &content, &why)?;
        }
    }
    if let Some(catalog) = catalog(driver)? {
        let content = binary::read(context, driver, &catalog)?;
        let published = oem.replace(".inf", ".cat");
        write(context, &format!("{CATALOGS}/{published}"), &content, &why)?;
    }
    Ok(bytes)
}

/// The .inf, and what it names that is there. The driver itself must be there; a coinstaller may be missing.
fn package_files(driver: &Driver) -> Result<Vec<String>> {
    let mut files = vec![driver.inf_name.clone(), driver.file.clone()];
    for file in driver.package.inf.source_files(driver.platform) {
        let file = names::plain("the name of a file", &file)?;
        let known = files.iter().any(|known| known.eq_ignore_ascii_case(&file));
        if !known && driver.package.member(&file).is_some() {
            files.push(file);
        }
    }
    Ok(files)
}

fn write(context: &mut Context<'_>, path: &str, content: &[u8], why: &str) -> Result<()> {
    let path = format!("{}/{path}", context.windows.system_root);
    let path = files::place(context.root, &path);
    context.recorder.write(&path, content, why)?;
    Ok(())
}
