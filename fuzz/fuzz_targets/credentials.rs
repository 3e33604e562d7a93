//! What buyers and boards say about credentials.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    credential::fuzz::said(bytes);
});
