//! EDK2's store of variables in a flash file: what OVMF calls VARS, and VirtualBox the machine's `.nvram`.
//!
//! ```text
//! 0x00  firmware volume header    UEFI PI specification 1.8, volume 3, 3.2.1: "_FVH" at 0x28, its own length at 0x30
//!       variable store header     EDK2 MdeModulePkg, Include/Guid/VariableFormat.h: VARIABLE_STORE_HEADER
//!       variables                 the same: AUTHENTICATED_VARIABLE_HEADER, name in UTF-16, data; at multiples of 4
//!       erased flash              ones
//! ```
//!
//! In flash a bit can only be cleared. A new value is a new variable behind the last, and the old one's state loses the
//! bit that says that it is not deleted. Stores without authentication, other than EDK2's, and qcow2 files are refused.
//!
//! [`variables`] reads what any firmware left; [`Store::open`] is stricter, for it writes.

mod empty;
mod raw;
#[cfg(test)]
mod tests;

use std::ops::Range;

use types::Guid;
use zerocopy::IntoBytes;

use crate::error::{Error, Result};
pub use empty::Layout;
use raw::{RawStore, RawVariable, RawVolume, front};

/// Signature of a firmware volume (PI 1.8, volume 3, 3.2.1).
const VOLUME_SIGNATURE: &[u8; 4] = b"_FVH";
/// gEfiAuthenticatedVariableGuid.
const STORE_GUID: [u8; 16] = Guid::of(0xaaf32c78_947b_439a_a180_2e144ec37792).0;
/// VARIABLE_STORE_FORMATTED and VARIABLE_STORE_HEALTHY.
const STORE_FORMATTED: u8 = 0x5a;
const STORE_HEALTHY: u8 = 0xfe;
/// VARIABLE_DATA: first word of a variable.
const VARIABLE_START: u16 = 0x55aa;
/// VAR_ADDED: it counts.
const ADDED: u8 = 0x3f;
/// VAR_ADDED & VAR_IN_DELETED_TRANSITION: it counts until its successor is complete.
const IN_TRANSITION: u8 = 0x3e;
/// VAR_DELETED, to be combined with the state.
const DELETED: u8 = 0xfd;
/// HEADER_ALIGNMENT: variables begin at multiples of this.
const ALIGNMENT: usize = 4;
/// What erased flash reads.
const ERASED: u8 = 0xff;

/// A variable, live or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Who defines it.
    pub vendor: Guid,
    /// EFI_VARIABLE_NON_VOLATILE and others (UEFI 2.10, 8.2.1).
    pub attributes: u32,
    /// Its content.
    pub data: &'a [u8],
    name: &'a [u8],
    state: u8,
    /// Where its header is, from the first variable on.
    at: usize,
}

impl Variable<'_> {
    /// True unless it was deleted, or never completed.
    pub fn is_live(&self) -> bool {
        matches!(self.state, ADDED | IN_TRANSITION)
    }

    /// Its name.
    pub fn name(&self) -> String {
        crate::text(self.name)
    }

    /// True for a live variable of this name.
    pub fn is(&self, vendor: Guid, name: &str) -> bool {
        let wanted = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        self.is_live() && self.vendor == vendor && self.name.iter().copied().eq(wanted)
    }
}

/// The variables of a flash, live or not, in their order. Ends after the first one that is damaged.
pub fn variables(flash: &[u8]) -> Result<Variables<'_>> {
    let (_, range) = store_of(flash)?;
    Ok(Variables {
        all: flash.get(range).unwrap_or_default(),
        at: 0,
    })
}

/// Content of the variable of this name among these.
pub fn newest<'a>(
    variables: impl Iterator<Item = Variable<'a>>,
    vendor: Guid,
    name: &str,
) -> Option<&'a [u8]> {
    let named = variables.filter(|variable| variable.is(vendor, name));
    // One that is complete goes before one that waits for its successor.
    let newest = named.max_by_key(|variable| variable.state == ADDED)?;
    Some(newest.data)
}

/// See [`variables`].
#[derive(Clone, Debug)]
pub struct Variables<'a> {
    all: &'a [u8],
    /// Where the next one is.
    at: usize,
}

impl<'a> Iterator for Variables<'a> {
    type Item = Result<Variable<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.all.get(self.at..)?;
        let raw = front::<RawVariable>(rest).filter(|raw| raw.start == VARIABLE_START)?;
        let variable = variable(&raw, rest, self.at);
        match &variable {
            Ok((_, len)) => self.at += len.next_multiple_of(ALIGNMENT),
            Err(_) => self.all = &[],
        }
        Some(variable.map(|(variable, _)| variable))
    }
}

/// The variable at the front of `rest`, and its length.
fn variable<'a>(raw: &RawVariable, rest: &'a [u8], at: usize) -> Result<(Variable<'a>, usize)> {
    let size = |len: u32| usize::try_from(len).unwrap_or(usize::MAX);
    let header_len = size_of::<RawVariable>();
    let data_at = header_len.checked_add(size(raw.name_len.get()));
    let end = data_at.and_then(|at| at.checked_add(size(raw.data_len.get())));
    let cut = Error::VariableCut { left: rest.len() };
    let (data_at, end) = data_at.zip(end).ok_or(cut.clone())?;
    let data = rest.get(data_at..end).ok_or(cut)?;
    let variable = Variable {
        vendor: Guid(raw.vendor),
        attributes: raw.attributes.get(),
        data,
        name: rest.get(header_len..data_at).unwrap_or_default(),
        state: raw.state,
        at,
    };
    Ok((variable, end))
}

/// The store's header, and where its variables are.
fn store_of(flash: &[u8]) -> Result<(RawStore, Range<usize>)> {
    let volume = front::<RawVolume>(flash).filter(|volume| &volume.signature == VOLUME_SIGNATURE);
    let volume = volume.ok_or(Error::NoVolume)?;
    let at = usize::from(volume.header_len.get());
    let rest = flash.get(at..).unwrap_or_default();
    let store = front::<RawStore>(rest).filter(|store| store.guid == STORE_GUID);
    let store = store.ok_or(Error::NoStore { at })?;
    let size = usize::try_from(store.size.get()).unwrap_or(usize::MAX);
    if size < size_of::<RawStore>() || size > rest.len() {
        return Err(Error::StoreCut { at, size });
    }
    Ok((store, at + size_of::<RawStore>()..at + size))
}

/// Sum of 16-bit words.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    words.fold(0, |sum, pair| {
        sum.wrapping_add(u16::from_le_bytes([pair[0], pair[1]]))
    })
}

/// A flash to which variables are written.
#[derive(Clone, PartialEq, Eq)]
pub struct Store {
    flash: Vec<u8>,
    /// The store, its header left out.
    range: Range<usize>,
    /// Where the next variable goes in `range`.
    end: usize,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, free) = (self.flash.len(), self.free());
        write!(f, "Store {{ {len} bytes, {free} free }}")
    }
}

impl Store {
    /// A flash with no variable in it, as OVMF's build leaves one.
    pub fn empty(layout: Layout) -> Self {
        let flash = empty::flash(layout);
        // The build's own header says where the variables are; there are none.
        let range = store_of(&flash).map_or(0..0, |(_, range)| range);
        Self {
            flash,
            range,
            end: 0,
        }
    }

    /// A flash that somebody else made. Everything is checked that firmware checks before it believes its flash.
    pub fn open(flash: Vec<u8>) -> Result<Self> {
        let (raw, range) = store_of(&flash)?;
        check_volume(&flash, range.end)?;
        if (raw.format, raw.state) != (STORE_FORMATTED, STORE_HEALTHY) {
            let (format, state) = (raw.format, raw.state);
            return Err(Error::Unhealthy { format, state });
        }
        let mut walk = variables(&flash)?;
        for variable in &mut walk {
            variable?;
        }
        let end = walk.at;
        let all = flash.get(range.clone()).unwrap_or_default();
        let behind = all.get(end..).unwrap_or_default();
        if let Some(dirty) = behind.iter().position(|&byte| byte != ERASED) {
            let at = range.start + end + dirty;
            return Err(Error::NotErased { at });
        }
        Ok(Self { flash, range, end })
    }

    /// The whole flash.
    pub fn bytes(&self) -> &[u8] {
        &self.flash
    }

    /// Content of a variable.
    pub fn get(&self, vendor: Guid, name: &str) -> Option<&[u8]> {
        let all = variables(&self.flash).ok()?;
        newest(all.filter_map(Result::ok), vendor, name)
    }

    /// Adds a variable, or gives it another content. Nothing changes where it does not fit.
    pub fn set(&mut self, vendor: Guid, name: &str, attributes: u32, data: &[u8]) -> Result<()> {
        let name_bytes = crate::utf16(name);
        let needed = size_of::<RawVariable>() + name_bytes.len() + data.len();
        let free = self.free();
        let full = Error::Full { needed, free };
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| full.clone());
        let raw = RawVariable {
            start: VARIABLE_START.into(),
            state: ADDED,
            reserved: 0,
            attributes: attributes.into(),
            monotonic_count: 0.into(),
            time: [0; 16],
            key_index: 0.into(),
            name_len: len(&name_bytes)?.into(),
            data_len: len(data)?.into(),
            vendor: vendor.0,
        };
        if needed > free {
            return Err(full);
        }
        self.delete(vendor, name);
        let at = self.range.start + self.end;
        let whole = [raw.as_bytes(), &name_bytes, data].concat();
        if let Some(place) = self.flash.get_mut(at..at + needed) {
            place.copy_from_slice(&whole);
        }
        self.end += needed.next_multiple_of(ALIGNMENT);
        Ok(())
    }

    /// Marks the variable as deleted, if there is one.
    fn delete(&mut self, vendor: Guid, name: &str) {
        let Ok(all) = variables(&self.flash) else {
            return;
        };
        let live = all.filter_map(Result::ok);
        let named = live.filter(|variable| variable.is(vendor, name));
        let places: Vec<usize> = named.map(|variable| variable.at).collect();
        for at in places {
            let state_at = self.range.start + at + std::mem::offset_of!(RawVariable, state);
            if let Some(state) = self.flash.get_mut(state_at) {
                *state &= DELETED;
            }
        }
    }

    fn free(&self) -> usize {
        self.range.len().saturating_sub(self.end)
    }
}

/// The sum of the volume's header, and its length: it holds the store, and the file holds it. Files for ARM's flash go on
/// behind it.
fn check_volume(flash: &[u8], store_end: usize) -> Result<()> {
    let volume = front::<RawVolume>(flash).ok_or(Error::NoVolume)?;
    let header = flash.get(..usize::from(volume.header_len.get()));
    let (expected, found) = (volume.len.get(), flash.len() as u64);
    let sum = sum(header.ok_or(Error::NoVolume)?);
    if expected > found || expected < store_end as u64 || sum != 0 {
        return Err(Error::BadVolume {
            expected,
            found,
            sum,
        });
    }
    Ok(())
}
