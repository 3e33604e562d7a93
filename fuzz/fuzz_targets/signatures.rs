//! Signatures, checked with a table and by libsecp256k1, and the arithmetic below.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bip340::fuzz::answers(bytes);
    bip340::fuzz::products(bytes);
});
