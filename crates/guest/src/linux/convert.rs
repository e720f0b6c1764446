//! Conversion: being built.

use types::{ConvertOptions, ConvertOutcome, GuestInfo, StorageMap};

use crate::{Error, Result, Root};

pub(crate) fn convert(
    root: &Root,
    guest: &GuestInfo,
    storage: &StorageMap,
    _options: &ConvertOptions,
    _step: &mut dyn FnMut(&str),
) -> Result<ConvertOutcome> {
    super::hibernation::refuse_hibernated(storage)?;
    super::hibernation::refuse_hibernated_files(root, guest)?;
    Err(Error::unsupported("being written"))
}
