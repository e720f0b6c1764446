//! Configurations of both kinds, made here after what is publicly known of them; no real one is at hand.

mod builder;
mod mutation;
mod prepare;
pub(crate) mod sample;
mod seeds;
mod vmcx;
