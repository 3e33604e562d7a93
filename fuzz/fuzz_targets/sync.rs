//! What another relay says in one synchronisation, a frame a line.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    board::fuzz::sync(bytes);
});
