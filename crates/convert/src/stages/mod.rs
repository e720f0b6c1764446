//! One stage a file, in the order of [`run`](crate::run).

pub(crate) mod open;

pub(crate) mod check;

pub(crate) mod verify;

pub(crate) mod launch;

pub(crate) mod inspect;

pub(crate) mod prepare;

pub(crate) mod convert;

pub(crate) mod trim;

pub(crate) mod copy;

pub(crate) mod finish;

mod pending;
