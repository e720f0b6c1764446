#![no_main]
//! See `v2v_fuzz::kmod_index`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| v2v_fuzz::kmod_index(data));
