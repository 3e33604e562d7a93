//! The seed at rest: one small file, encrypted under a passphrase or a key file, never overwritten by accident.
//!
//! Layout (version 1, integers big-endian): `SOUKSEED`, version u8, secret kind u8 (1 passphrase, 2 key file), argon2id memory
//! in KiB u32, passes u32, lanes u32, salt 16 bytes, nonce 24 bytes, ciphertext (XChaCha20-Poly1305 over two strings with u16
//! lengths: words and BIP-39 passphrase; everything before it is authenticated too), first 8 bytes of SHA-256 over all of the above.
//! The checksum tells a damaged file from a wrong passphrase.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::seed::{Seed, SeedError};

const MAGIC: &[u8; 8] = b"SOUKSEED";
const VERSION: u8 = 1;
const SALT_LEN: usize = 16;
const NONCE_LEN: usize = 24;
const CHECK_LEN: usize = 8;
const HEADER_LEN: usize = MAGIC.len() + 2 + 3 * 4 + SALT_LEN + NONCE_LEN;
/// No seed file is larger than this.
const MAX_FILE: u64 = 8 * 1024;
/// A key file holds at least this many bytes, and no more than [`MAX_KEY_FILE`].
const MIN_KEY_FILE: u64 = 32;
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Work factors of argon2id. The file names them, so they can rise without a new version.
#[derive(Clone, Copy)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// The second recommended option of RFC 9106: 64 MiB, three passes, four lanes.
    const STANDARD: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
    /// The most that a file may ask for: it is read before it is authenticated.
    const LIMIT: Cost = Cost { memory_kib: 1024 * 1024, passes: 32, lanes: 16 };
}

/// What opens a seed file.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// A passphrase, not empty.
    Passphrase(&'a str),
    /// A file of 32 bytes to 64 KiB, for a service that starts by itself.
    KeyFile(&'a Path),
}

/// Why a seed file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is already a seed: it is never overwritten.
    #[error("{0} exists already and is not overwritten")]
    Exists(PathBuf),
    /// There is no such file.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// The passphrase or key file does not open it.
    #[error("wrong passphrase or key file for {0}")]
    WrongSecret(PathBuf),
    /// It was locked with the other kind of secret.
    #[error("{path} is locked with a {wanted}")]
    OtherKind {
        /// The seed file.
        path: PathBuf,
        /// "passphrase" or "key file".
        wanted: &'static str,
    },
    /// Cut short, bit-rotten, or not a seed file.
    #[error("{path} is damaged or no seed file: {what}")]
    Damaged {
        /// The seed file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Written by a newer version.
    #[error("{path} has format version {version}; this program knows version {VERSION}")]
    Version {
        /// The seed file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// Others can read it.
    #[error("{path} has mode {mode:03o}: others can read it; run chmod 600 on it")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The passphrase is empty or the key file has the wrong size.
    #[error("unusable secret: {0}")]
    Secret(&'static str),
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The encrypted seed on disk.
pub struct SeedFile;

impl SeedFile {
    /// Writes a new seed file (mode 0600), durable when this returns. `fresh` is 32 bytes of new entropy for salt and nonce.
    /// Takes about half a second of CPU and 64 MiB of memory on purpose.
    pub fn create(path: &Path, seed: &Seed, unlock: Unlock<'_>, fresh: &[u8; 32]) -> Result<(), FileError> {
        create_with(path, seed, unlock, fresh, Cost::STANDARD)
    }

    /// Reads and decrypts the seed.
    pub fn open(path: &Path, unlock: Unlock<'_>) -> Result<Seed, FileError> {
        let bytes = read_private(path, MAX_FILE)?;
        decrypt(path, &bytes, unlock)
    }

    /// Locks an existing file with another secret: the old file stays valid until the new one is durable.
    pub fn change_secret(path: &Path, old: Unlock<'_>, new: Unlock<'_>, fresh: &[u8; 32]) -> Result<(), FileError> {
        let seed = SeedFile::open(path, old)?;
        let bytes = encrypt(&seed, new, fresh, Cost::STANDARD)?;
        let draft = write_draft(path, &bytes)?;
        fs::rename(&draft, path).map_err(|source| io_error(path, source))?;
        sync_parent(path)
    }
}

fn create_with(path: &Path, seed: &Seed, unlock: Unlock<'_>, fresh: &[u8; 32], cost: Cost) -> Result<(), FileError> {
    if path.exists() {
        return Err(FileError::Exists(path.to_owned()));
    }
    let bytes = encrypt(seed, unlock, fresh, cost)?;
    let draft = write_draft(path, &bytes)?;
    // A link, unlike a rename, fails when the name is taken: two that create at once cannot overwrite each other.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(|source| io_error(&draft, source))?;
    linked.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => io_error(path, source),
    })?;
    sync_parent(path)
}

fn encrypt(seed: &Seed, unlock: Unlock<'_>, fresh: &[u8; 32], cost: Cost) -> Result<Vec<u8>, FileError> {
    let mut salt_and_nonce = [0; SALT_LEN + NONCE_LEN];
    Hkdf::<Sha256>::new(None, fresh)
        .expand(b"souk/seed-file/v1", &mut salt_and_nonce)
        .expect("40 bytes are a valid HKDF-SHA256 output length");
    let (salt, nonce) = salt_and_nonce.split_at(SALT_LEN);

    let (kind, secret) = read_secret(unlock)?;
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind.byte()]);
    for number in [cost.memory_kib, cost.passes, cost.lanes] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(salt);
    out.extend_from_slice(nonce);

    let mut plain = Zeroizing::new(Vec::with_capacity(512));
    for text in [seed.words(), seed.passphrase()] {
        let len = u16::try_from(text.len()).map_err(|_| FileError::Secret("BIP-39 passphrase above 65,535 bytes"))?;
        plain.extend_from_slice(&len.to_be_bytes());
        plain.extend_from_slice(text.as_bytes());
    }
    let key = stretch(&secret, salt, cost).expect("our own cost and salt length are valid for argon2");
    let nonce = <[u8; NONCE_LEN]>::try_from(nonce).expect("split at its length");
    let sealed = XChaCha20Poly1305::new((&*key).into())
        .encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: &out })
        .expect("a few hundred bytes are within the cipher's limit");
    out.extend_from_slice(&sealed);
    let check = Sha256::digest(&out);
    out.extend_from_slice(&check[..CHECK_LEN]);
    if out.len() as u64 > MAX_FILE {
        return Err(FileError::Secret("BIP-39 passphrase too long"));
    }
    Ok(out)
}

fn decrypt(path: &Path, bytes: &[u8], unlock: Unlock<'_>) -> Result<Seed, FileError> {
    let damaged = |what| FileError::Damaged { path: path.to_owned(), what };
    if !bytes.starts_with(MAGIC) {
        return Err(damaged("it does not start with SOUKSEED"));
    }
    let version = *bytes.get(MAGIC.len()).ok_or_else(|| damaged("it is cut short"))?;
    if version != VERSION {
        return Err(FileError::Version { path: path.to_owned(), version });
    }
    if bytes.len() < HEADER_LEN + CHECK_LEN {
        return Err(damaged("it is cut short"));
    }
    let (body, check) = bytes.split_at(bytes.len() - CHECK_LEN);
    if Sha256::digest(body)[..CHECK_LEN] != *check {
        return Err(damaged("its checksum does not match"));
    }
    let (header, sealed) = body.split_at(HEADER_LEN);
    let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let cost = Cost { memory_kib: number(10), passes: number(14), lanes: number(18) };
    let limit = Cost::LIMIT;
    if cost.memory_kib > limit.memory_kib || cost.passes > limit.passes || cost.lanes > limit.lanes {
        return Err(damaged("it asks for more work than any seed file does"));
    }
    let salt = &header[22..22 + SALT_LEN];
    let nonce = <[u8; NONCE_LEN]>::try_from(&header[22 + SALT_LEN..]).expect("the header ends with the nonce");

    let (kind, secret) = read_secret(unlock)?;
    if header[9] != kind.byte() {
        return Err(match Kind::from_byte(header[9]) {
            Some(other) => FileError::OtherKind { path: path.to_owned(), wanted: other.name() },
            None => damaged("it is locked with an unknown kind of secret"),
        });
    }
    let key = stretch(&secret, salt, cost).ok_or_else(|| damaged("its argon2 parameters are not valid"))?;
    let plain = XChaCha20Poly1305::new((&*key).into())
        .decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: header })
        .map(Zeroizing::new)
        .map_err(|_| FileError::WrongSecret(path.to_owned()))?;

    let mut rest = plain.as_slice();
    let words = take_text(&mut rest).ok_or_else(|| damaged("its content is not two strings"))?;
    let passphrase = take_text(&mut rest).ok_or_else(|| damaged("its content is not two strings"))?;
    Seed::from_words(words, passphrase).map_err(|error| match error {
        SeedError::Words | SeedError::Index(_) => damaged("its words are not a mnemonic"),
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Passphrase,
    KeyFile,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Passphrase => 1,
            Kind::KeyFile => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Passphrase, Kind::KeyFile].into_iter().find(|kind| kind.byte() == byte)
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Passphrase => "passphrase",
            Kind::KeyFile => "key file",
        }
    }
}

fn read_secret(unlock: Unlock<'_>) -> Result<(Kind, Zeroizing<Vec<u8>>), FileError> {
    match unlock {
        Unlock::Passphrase("") => Err(FileError::Secret("the passphrase is empty")),
        Unlock::Passphrase(text) => Ok((Kind::Passphrase, Zeroizing::new(text.as_bytes().to_vec()))),
        Unlock::KeyFile(path) => {
            let bytes = Zeroizing::new(read_private(path, MAX_KEY_FILE)?);
            if (bytes.len() as u64) < MIN_KEY_FILE {
                return Err(FileError::Secret("a key file holds at least 32 bytes"));
            }
            Ok((Kind::KeyFile, bytes))
        }
    }
}

fn stretch(secret: &[u8], salt: &[u8], cost: Cost) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(key.len())).ok()?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(secret, salt, key.as_mut_slice())
        .ok()?;
    Some(key)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (len, after) = rest.split_first_chunk::<2>()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

fn read_private(path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
        _ => io_error(path, source),
    })?;
    let meta = file.metadata().map_err(|source| io_error(path, source))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Permissions { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|source| io_error(path, source))?;
    if bytes.len() as u64 > max {
        return Err(FileError::Damaged { path: path.to_owned(), what: "it is too large" });
    }
    Ok(bytes)
}

/// Writes the bytes durably beside `path` and returns where. A draft left by a crash is replaced.
fn write_draft(path: &Path, bytes: &[u8]) -> Result<PathBuf, FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".draft-{}", std::process::id()));
    let draft = path.with_file_name(name);
    match fs::remove_file(&draft) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(io_error(&draft, source)),
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    match written {
        Ok(()) => Ok(draft),
        Err(source) => Err(io_error(&draft, source)),
    }
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|source| io_error(parent, source))
}

fn io_error(path: &Path, source: io::Error) -> FileError {
    FileError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
    const PASS: Unlock<'static> = Unlock::Passphrase("correct horse");

    fn written(dir: &Path) -> (PathBuf, Seed) {
        let path = dir.join("seed");
        let seed = Seed::generate(&[3; 32]);
        create_with(&path, &seed, PASS, &[4; 32], CHEAP).unwrap();
        (path, seed)
    }

    #[test]
    fn a_seed_comes_back_as_it_was_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        let seed = Seed::from_words(Seed::generate(&[3; 32]).words(), "twenty-fifth word").unwrap();
        SeedFile::create(&path, &seed, PASS, &[4; 32]).unwrap();
        let back = SeedFile::open(&path, PASS).unwrap();
        assert_eq!(back.words(), seed.words());
        assert_eq!(back.expose(), seed.expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let raw = fs::read(&path).unwrap();
        let first_word = seed.words().split(' ').next().unwrap().as_bytes();
        assert!(!raw.windows(first_word.len()).any(|w| w == first_word));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn a_wrong_passphrase_is_named_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = written(dir.path());
        let error = SeedFile::open(&path, Unlock::Passphrase("wrong horse")).err().unwrap();
        assert!(matches!(error, FileError::WrongSecret(_)), "{error}");
        assert!(error.to_string().starts_with("wrong passphrase or key file"));
        assert!(matches!(SeedFile::open(&path, Unlock::Passphrase("")), Err(FileError::Secret(_))));
    }

    #[test]
    fn a_torn_or_changed_file_is_damaged_wherever_it_was_hit() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = written(dir.path());
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(SeedFile::open(&path, PASS), Err(FileError::Damaged { .. })), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            fs::write(&path, &bent).unwrap();
            let error = SeedFile::open(&path, PASS).err().unwrap();
            let told = if at == MAGIC.len() {
                matches!(error, FileError::Version { version: 0, .. })
            } else {
                matches!(error, FileError::Damaged { .. })
            };
            assert!(told, "byte {at}: {error}");
        }
        fs::write(&path, vec![b'S'; 9000]).unwrap();
        assert!(matches!(SeedFile::open(&path, PASS), Err(FileError::Damaged { what: "it is too large", .. })));
    }

    #[test]
    fn a_forged_header_with_a_good_checksum_does_not_open_or_exhaust_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = written(dir.path());
        let whole = fs::read(&path).unwrap();
        let forge = |at: usize, byte: u8| {
            let mut bent = whole[..whole.len() - CHECK_LEN].to_vec();
            bent[at] = byte;
            let check = Sha256::digest(&bent);
            bent.extend_from_slice(&check[..CHECK_LEN]);
            fs::write(&path, &bent).unwrap();
            SeedFile::open(&path, PASS).err().unwrap()
        };
        assert!(matches!(forge(10, 0xff), FileError::Damaged { .. }), "4 TiB of memory");
        assert!(matches!(forge(17, 0), FileError::Damaged { .. }), "no passes");
        assert!(matches!(forge(17, 2), FileError::WrongSecret(_)), "other passes");
        assert!(matches!(forge(30, whole[30] ^ 1), FileError::WrongSecret(_)), "other salt");
        assert!(matches!(forge(9, 9), FileError::Damaged { .. }), "unknown kind");
    }

    #[test]
    fn a_key_file_opens_what_it_locked_and_the_kinds_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        fs::write(&key, [9; 32]).unwrap();
        let open = FileError::Permissions { path: key.clone(), mode: 0o644 }.to_string();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let path = dir.path().join("seed");
        let seed = Seed::generate(&[5; 32]);
        let error = create_with(&path, &seed, Unlock::KeyFile(&key), &[6; 32], CHEAP).unwrap_err();
        assert_eq!(error.to_string(), open);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        create_with(&path, &seed, Unlock::KeyFile(&key), &[6; 32], CHEAP).unwrap();
        assert_eq!(SeedFile::open(&path, Unlock::KeyFile(&key)).unwrap().words(), seed.words());
        assert!(matches!(SeedFile::open(&path, PASS), Err(FileError::OtherKind { wanted: "key file", .. })));
        fs::write(&key, [9; 31]).unwrap();
        assert!(matches!(SeedFile::open(&path, Unlock::KeyFile(&key)), Err(FileError::Secret(_))));
    }

    #[test]
    fn an_existing_seed_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (path, seed) = written(dir.path());
        let other = Seed::generate(&[8; 32]);
        assert!(matches!(create_with(&path, &other, PASS, &[4; 32], CHEAP), Err(FileError::Exists(_))));
        assert_eq!(SeedFile::open(&path, PASS).unwrap().words(), seed.words());
        assert!(matches!(SeedFile::open(&dir.path().join("none"), PASS), Err(FileError::Missing(_))));
    }

    #[test]
    fn the_secret_can_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, seed) = written(dir.path());
        let new = Unlock::Passphrase("battery staple");
        SeedFile::change_secret(&path, PASS, new, &[7; 32]).unwrap();
        assert!(matches!(SeedFile::open(&path, PASS), Err(FileError::WrongSecret(_))));
        assert_eq!(SeedFile::open(&path, new).unwrap().words(), seed.words());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
