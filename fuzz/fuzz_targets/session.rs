//! What a client says in one connection, a frame a line.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    board::fuzz::session(bytes);
});
