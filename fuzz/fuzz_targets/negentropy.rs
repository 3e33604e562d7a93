//! Negentropy messages, as a relay and as a client take them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    board::fuzz::negentropy(bytes);
});
