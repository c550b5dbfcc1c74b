#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| carrick_fuzz::targets::config::run(input));
