#![no_main]
//! See `v2v_fuzz::load_option`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| v2v_fuzz::load_option(data));
