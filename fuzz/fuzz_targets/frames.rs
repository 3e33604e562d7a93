//! Frames of clients and of relays, as texts and as a socket brings them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    wire::fuzz::client_frame(bytes);
    wire::fuzz::relay_frame(bytes);
    board::fuzz::frames(bytes);
});
