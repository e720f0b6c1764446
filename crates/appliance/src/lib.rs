//! The appliance: host side.
