#![no_main]
//! See `v2v_fuzz::vmdk_descriptor`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| v2v_fuzz::vmdk_descriptor(data));
