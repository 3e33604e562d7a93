//! Encryption between two Nostr keys (NIP-44, version 2): ECDH, HKDF-SHA256, ChaCha20, HMAC-SHA256, padding.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, cmp::fixed_time_eq, sha256};
use chacha20::cipher::StreamCipher;
use chacha20::{ChaCha20, KeyIvInit};
use secp256k1::{Keypair, Parity, XOnlyPublicKey, ecdh};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest plaintext, in bytes.
pub const PLAINTEXT_MAX: usize = 65_535;
/// Shortest and longest payload, in characters.
const PAYLOAD_LEN: std::ops::RangeInclusive<usize> = 132..=87_472;
/// The one version that we speak.
const VERSION: u8 = 2;

/// Why something is not encrypted or decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nip44Error {
    /// The other side's key is not on the curve.
    #[error("not a public key")]
    BadKey,
    /// Plaintexts have 1 to [`PLAINTEXT_MAX`] bytes.
    #[error("plaintext is empty or longer than {PLAINTEXT_MAX} bytes")]
    PlaintextLength,
    /// The payload is shorter or longer than any there can be.
    #[error("payload is too short or too long")]
    PayloadLength,
    /// Encrypted by a version that we do not speak.
    #[error("unknown version")]
    UnknownVersion,
    /// Not base64 with padding.
    #[error("not base64")]
    Base64,
    /// Damaged, or for another pair of keys.
    #[error("message authentication code does not match")]
    BadMac,
    /// The padding is not what the length asks for.
    #[error("bad padding")]
    BadPadding,
    /// The plaintext is not UTF-8.
    #[error("plaintext is not UTF-8")]
    NotUtf8,
}

/// The key that two parties share. Whoever has it reads all that they write to each other.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ConversationKey([u8; 32]);

impl fmt::Debug for ConversationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConversationKey(..)")
    }
}

/// Keys of one message.
#[derive(Zeroize, ZeroizeOnDrop)]
struct MessageKeys {
    cipher: [u8; 32],
    nonce: [u8; 12],
    mac: [u8; 32],
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Hmac::<sha256::Hash>::from_engine(engine).to_byte_array()
}

impl ConversationKey {
    /// The key that the holder of `own` shares with the holder of the x-only key `other`. Both compute the same.
    pub fn between(own: &Keypair, other: &[u8; 32]) -> Result<ConversationKey, Nip44Error> {
        let other = XOnlyPublicKey::from_slice(other).map_err(|_| Nip44Error::BadKey)?;
        let mut point = ecdh::shared_secret_point(&other.public_key(Parity::Even), &own.secret_key());
        let key = hmac(b"nip44-v2", &[&point[..32]]);
        point.zeroize();
        Ok(ConversationKey(key))
    }

    /// From the bytes that another implementation computed.
    pub fn from_bytes(bytes: [u8; 32]) -> ConversationKey {
        ConversationKey(bytes)
    }

    /// HKDF-Expand of the conversation key with the message's nonce to 76 bytes.
    fn message_keys(&self, nonce: &[u8; 32]) -> MessageKeys {
        let first = hmac(&self.0, &[nonce, &[1]]);
        let second = hmac(&self.0, &[&first, nonce, &[2]]);
        let third = hmac(&self.0, &[&second, nonce, &[3]]);
        let mut keys = MessageKeys { cipher: first, nonce: [0; 12], mac: [0; 32] };
        keys.nonce.copy_from_slice(&second[..12]);
        keys.mac[..20].copy_from_slice(&second[12..]);
        keys.mac[20..].copy_from_slice(&third[..12]);
        keys
    }

    /// Encrypts. `nonce` must be fresh and unpredictable for every message: the same one twice reveals both.
    pub fn encrypt(&self, plaintext: &str, nonce: &[u8; 32]) -> Result<String, Nip44Error> {
        let length = u16::try_from(plaintext.len()).map_err(|_| Nip44Error::PlaintextLength)?;
        if length == 0 {
            return Err(Nip44Error::PlaintextLength);
        }
        let keys = self.message_keys(nonce);
        let mut payload = Vec::with_capacity(67 + padded_len(plaintext.len()));
        payload.push(VERSION);
        payload.extend_from_slice(nonce);
        payload.extend_from_slice(&length.to_be_bytes());
        payload.extend_from_slice(plaintext.as_bytes());
        payload.resize(35 + padded_len(plaintext.len()), 0);
        ChaCha20::new(&keys.cipher.into(), &keys.nonce.into()).apply_keystream(&mut payload[33..]);
        let mac = hmac(&keys.mac, &[nonce, &payload[33..]]);
        payload.extend_from_slice(&mac);
        Ok(STANDARD.encode(payload))
    }

    /// Decrypts what [`ConversationKey::encrypt`] made. The code is compared in constant time, before anything is decrypted.
    pub fn decrypt(&self, payload: &str) -> Result<String, Nip44Error> {
        if payload.starts_with('#') {
            return Err(Nip44Error::UnknownVersion);
        }
        if !PAYLOAD_LEN.contains(&payload.len()) {
            return Err(Nip44Error::PayloadLength);
        }
        let bytes = STANDARD.decode(payload).map_err(|_| Nip44Error::Base64)?;
        let (version, rest) = bytes.split_first().ok_or(Nip44Error::PayloadLength)?;
        if *version != VERSION {
            return Err(Nip44Error::UnknownVersion);
        }
        let (nonce, rest) = rest.split_first_chunk::<32>().ok_or(Nip44Error::PayloadLength)?;
        let (ciphertext, mac) = rest.split_last_chunk::<32>().ok_or(Nip44Error::PayloadLength)?;
        let keys = self.message_keys(nonce);
        if !fixed_time_eq(&hmac(&keys.mac, &[nonce, ciphertext]), mac) {
            return Err(Nip44Error::BadMac);
        }
        let mut padded = ciphertext.to_vec();
        ChaCha20::new(&keys.cipher.into(), &keys.nonce.into()).apply_keystream(&mut padded);
        let text = unpad(&padded).and_then(|text| String::from_utf8(text.to_vec()).map_err(|_| Nip44Error::NotUtf8));
        padded.zeroize();
        text
    }
}

/// Length of a plaintext of `len` bytes (1 to [`PLAINTEXT_MAX`]) after padding, without the two bytes of the length.
pub fn padded_len(len: usize) -> usize {
    if len <= 32 {
        return 32;
    }
    let next_power = len.next_power_of_two();
    let chunk = if next_power <= 256 { 32 } else { next_power / 8 };
    chunk * ((len - 1) / chunk + 1)
}

fn unpad(padded: &[u8]) -> Result<&[u8], Nip44Error> {
    let (length, rest) = padded.split_first_chunk::<2>().ok_or(Nip44Error::BadPadding)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length == 0 || length > rest.len() || rest.len() != padded_len(length) {
        return Err(Nip44Error::BadPadding);
    }
    Ok(&rest[..length])
}
