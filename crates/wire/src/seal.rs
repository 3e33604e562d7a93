//! Gift wraps (NIP-59): a message that only its recipient can read, from an author that only the recipient learns.

use std::fmt;

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use secp256k1::{Keypair, SECP256K1};
use units::Unix;
use zeroize::Zeroize;

use crate::event::{Event, Forged, Limits, Unsigned, parse_rumor, pubkey_of, write_rumor};
use crate::json::{Malformed, write_hex};
use crate::nip44::{ConversationKey, Nip44Error};

/// Kind of a seal.
pub const KIND_SEAL: u16 = 13;
/// Kind of a gift wrap.
pub const KIND_GIFT_WRAP: u16 = 1059;
/// Seals and wraps are dated up to this many seconds into the past.
pub const BACKDATE_SECS: u64 = 2 * 24 * 3600;

/// Why something was not wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// The author of the rumor is not the holder of the key that seals it.
    #[error("the rumor is by another author")]
    AuthorMismatch,
    /// The recipient's key is no key, or the rumor does not fit.
    #[error(transparent)]
    Encryption(#[from] Nip44Error),
}

/// Why a gift wrap was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// Not an event of kind 1059.
    #[error("not a gift wrap")]
    NotAWrap,
    /// Addressed to another key.
    #[error("for another recipient")]
    NotForUs,
    /// The wrap is not what its signer signed.
    #[error("wrap: {0}")]
    ForgedWrap(Forged),
    /// The wrap or the seal does not decrypt.
    #[error(transparent)]
    Encryption(#[from] Nip44Error),
    /// The wrap holds no event, or the seal no rumor.
    #[error("inside: {0}")]
    Malformed(#[from] Malformed),
    /// What the wrap holds is not a seal: another kind, or tags that NIP-59 forbids.
    #[error("not a seal")]
    NotASeal,
    /// The seal is not what its author signed.
    #[error("seal: {0}")]
    ForgedSeal(Forged),
    /// The rumor claims another author than the one that sealed it: somebody pretends.
    #[error("the rumor's author did not seal it")]
    AuthorMismatch,
    /// The rumor's id is not its hash.
    #[error("rumor: {0}")]
    ForgedRumor(Forged),
}

impl UnwrapError {
    /// A stable name for the reason.
    pub fn code(self) -> &'static str {
        match self {
            UnwrapError::NotAWrap => "not-a-wrap",
            UnwrapError::NotForUs => "not-for-us",
            UnwrapError::ForgedWrap(_) => "forged-wrap",
            UnwrapError::Encryption(_) => "encryption",
            UnwrapError::Malformed(_) => "malformed",
            UnwrapError::NotASeal => "not-a-seal",
            UnwrapError::ForgedSeal(_) => "forged-seal",
            UnwrapError::AuthorMismatch => "author-mismatch",
            UnwrapError::ForgedRumor(_) => "forged-rumor",
        }
    }
}

/// Random choices of one wrap, spread from the caller's entropy. The rumor, both parties and the sealing key go in too, so that
/// entropy that repeats by mistake still gives every message its own keys.
struct Choices([u8; 32]);

impl Choices {
    fn new(rumor: &Unsigned, key: &Keypair, recipient: &[u8; 32], entropy: &[u8; 32]) -> Choices {
        let mut engine = HmacEngine::<sha256::Hash>::new(entropy);
        let mut secret = key.secret_bytes();
        engine.input(&secret);
        secret.zeroize();
        engine.input(&rumor.id());
        engine.input(recipient);
        Choices(Hmac::<sha256::Hash>::from_engine(engine).to_byte_array())
    }

    fn bytes(&self, label: &str, count: u8) -> [u8; 32] {
        let mut engine = HmacEngine::<sha256::Hash>::new(&self.0);
        engine.input(label.as_bytes());
        engine.input(&[count]);
        Hmac::<sha256::Hash>::from_engine(engine).to_byte_array()
    }

    fn past(&self, label: &str, now: Unix) -> Unix {
        let bytes = self.bytes(label, 0);
        let random = u64::from_be_bytes(*bytes.first_chunk().expect("32 bytes hold eight"));
        Unix(now.0.saturating_sub(random % BACKDATE_SECS))
    }

    /// One in 2^128 secrets is no key; the next one is.
    fn ephemeral_key(&self) -> Keypair {
        (0..=u8::MAX)
            .find_map(|count| Keypair::from_seckey_slice(SECP256K1, &self.bytes("ephemeral", count)).ok())
            .expect("256 hashes in a row that are no key do not happen")
    }
}

impl Drop for Choices {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Seals `rumor` with its author's `key` and wraps it for `recipient` under a key that is used once. Seal and wrap are dated
/// up to two days before `now`; `entropy` must be fresh. `expiration` is what relays may read (NIP-40).
pub fn wrap(
    rumor: &Unsigned,
    key: &Keypair,
    recipient: &[u8; 32],
    now: Unix,
    expiration: Option<Unix>,
    entropy: &[u8; 32],
) -> Result<Event, WrapError> {
    let (unsigned, once) = wrap_unsigned(rumor, key, recipient, now, expiration, entropy)?;
    let aux = Choices::new(rumor, key, recipient, entropy).bytes("wrap-aux", 0);
    Ok(unsigned.sign(&once, &aux))
}

/// As [`wrap`], but leaves the last signature to the caller, who may want to mine first (NIP-13). Forget the key afterwards.
pub fn wrap_unsigned(
    rumor: &Unsigned,
    key: &Keypair,
    recipient: &[u8; 32],
    now: Unix,
    expiration: Option<Unix>,
    entropy: &[u8; 32],
) -> Result<(Unsigned, Keypair), WrapError> {
    let author = pubkey_of(key);
    if rumor.pubkey != author {
        return Err(WrapError::AuthorMismatch);
    }
    let choices = Choices::new(rumor, key, recipient, entropy);
    let mut text = write_rumor(rumor);
    let content = ConversationKey::between(key, recipient)?.encrypt(&text, &choices.bytes("seal-nonce", 0));
    text.zeroize();
    let created_at = choices.past("seal-time", now);
    let seal = Unsigned { pubkey: author, created_at, kind: KIND_SEAL, tags: Vec::new(), content: content? };
    let seal = seal.sign(key, &choices.bytes("seal-aux", 0));

    let once = choices.ephemeral_key();
    let content =
        ConversationKey::between(&once, recipient)?.encrypt(&seal.to_json(), &choices.bytes("wrap-nonce", 0))?;
    let mut to = String::with_capacity(64);
    write_hex(&mut to, recipient);
    let mut tags = vec![vec!["p".to_owned(), to]];
    tags.extend(expiration.map(|at| vec!["expiration".to_owned(), at.0.to_string()]));
    let created_at = choices.past("wrap-time", now);
    Ok((Unsigned { pubkey: pubkey_of(&once), created_at, kind: KIND_GIFT_WRAP, tags, content }, once))
}

/// Encrypts `text` for the holder of `key` itself and puts it into an event that looks like any gift wrap: signed by a key that is
/// used once, addressed to `key`. It is dated `now`, and it has no seal inside: that nobody else wrote it follows from the
/// encryption, whose key only the holder of `key` can compute. `entropy` must be fresh.
pub fn keep(text: &str, key: &Keypair, now: Unix, entropy: &[u8; 32]) -> Result<Event, WrapError> {
    let own = pubkey_of(key);
    let rumor = Unsigned { pubkey: own, created_at: now, kind: KIND_SEAL, tags: Vec::new(), content: text.to_owned() };
    let choices = Choices::new(&rumor, key, &own, entropy);
    let content = ConversationKey::between(key, &own)?.encrypt(text, &choices.bytes("keep-nonce", 0))?;
    let once = choices.ephemeral_key();
    let mut to = String::with_capacity(64);
    write_hex(&mut to, &own);
    let tags = vec![vec!["p".to_owned(), to]];
    let wrap = Unsigned { pubkey: pubkey_of(&once), created_at: now, kind: KIND_GIFT_WRAP, tags, content };
    Ok(wrap.sign(&once, &choices.bytes("keep-aux", 0)))
}

/// Opens what [`keep`] made with the same `key`. Who signed the event does not matter: what decrypts was written by us.
pub fn open_kept(event: &Event, key: &Keypair) -> Result<String, UnwrapError> {
    if event.kind != KIND_GIFT_WRAP {
        return Err(UnwrapError::NotAWrap);
    }
    Ok(ConversationKey::between(key, &pubkey_of(key))?.decrypt(&event.content)?)
}

/// What a gift wrap held.
#[derive(Clone, PartialEq, Eq)]
pub struct Unwrapped {
    /// The message. Its author is who sealed it.
    pub rumor: Unsigned,
    /// Id of the rumor.
    pub id: [u8; 32],
}

impl fmt::Debug for Unwrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unwrapped({:?})", self.rumor)
    }
}

/// Opens a gift wrap for the holder of `key`. Checks everything: recipient, both signatures, that the seal is one, that its
/// author is the rumor's, and the rumor's id.
pub fn unwrap(wrap: &Event, key: &Keypair) -> Result<Unwrapped, UnwrapError> {
    if wrap.kind != KIND_GIFT_WRAP {
        return Err(UnwrapError::NotAWrap);
    }
    let mut own = String::with_capacity(64);
    write_hex(&mut own, &pubkey_of(key));
    if !wrap.tag_values("p").any(|to| to == own) {
        return Err(UnwrapError::NotForUs);
    }
    wrap.verify().map_err(UnwrapError::ForgedWrap)?;
    let text = ConversationKey::between(key, &wrap.pubkey)?.decrypt(&wrap.content)?;
    let seal = Event::parse(text.as_bytes(), &Limits::STRICT)?;
    if seal.kind != KIND_SEAL || !seal.tags.is_empty() {
        return Err(UnwrapError::NotASeal);
    }
    seal.verify().map_err(UnwrapError::ForgedSeal)?;
    let mut text = ConversationKey::between(key, &seal.pubkey)?.decrypt(&seal.content)?;
    let parsed = parse_rumor(text.as_bytes(), &Limits::STRICT);
    text.zeroize();
    let (rumor, id) = parsed?;
    if rumor.pubkey != seal.pubkey {
        return Err(UnwrapError::AuthorMismatch);
    }
    if rumor.id() != id {
        return Err(UnwrapError::ForgedRumor(Forged::BadId));
    }
    Ok(Unwrapped { rumor, id })
}
