//! One file that brings a machine back: the encrypted seed, the configuration, the trade log, and what gets coins out of channels.
//!
//! Layout (version 1, integers big-endian): `SOUKBACK`, version u8, length u16 and bytes of the seed file, nonce of 24 bytes, ciphertext
//! (XChaCha20-Poly1305 under [`Seed::data`], everything before it authenticated too) over the files: each a u16 length and a name, a u64
//! length and the bytes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use keys::Seed;
use zeroize::Zeroizing;

use crate::config;
use crate::issuer;
use crate::post;
use crate::restore::MARK;
use crate::store::{Store, StoreError};

const MAGIC: &[u8; 9] = b"SOUKBACK\x01";
const NONCE_BYTES: usize = 24;
/// No backup is larger: it is made and opened in memory.
pub const BACKUP_BYTES_MAX: u64 = 1 << 30;
/// The seed file of a data directory.
const SEED: &str = "seed";
/// What a backup may hold, and nothing else is ever written from one.
const FILES: [&str; 5] = [config::FILE, "trades.sqlite", issuer::FILE, "node/node.sqlite", "node/wallet.sqlite"];
/// Where copies are made; what a crash leaves of it is removed at the next backup.
const SCRATCH: &str = "backup.tmp";

/// Why there is no backup, or nothing comes of it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The trade log cannot be copied.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node's files cannot be copied.
    #[error(transparent)]
    Node(#[from] node_ldk::BackupError),
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Entropy(String),
    /// It is larger than a backup may be.
    #[error("the backup would have {0} bytes; at most {BACKUP_BYTES_MAX} are possible")]
    TooLarge(u64),
    /// Not a backup, of another version, cut short, or changed.
    #[error("this is no backup of souk that this version can read: {0}")]
    Unreadable(&'static str),
    /// The seed is another one than the backup's.
    #[error("the seed does not open this backup: it belongs to another one, or the file was changed")]
    Sealed,
}

fn file_trouble(path: &Path) -> impl FnOnce(io::Error) -> BackupError + '_ {
    |source| BackupError::File { path: path.to_path_buf(), source }
}

/// Makes backups of a daemon that runs.
pub(crate) struct Backup {
    data_dir: PathBuf,
    key: Zeroizing<[u8; 32]>,
    store: Arc<Store>,
    /// What our own board sells from, if it sells.
    issuer: Option<Arc<Store>>,
    /// One at a time: they share the place where copies are made.
    making: Mutex<()>,
}

impl Backup {
    pub(crate) fn new(data_dir: &Path, seed: &Seed, store: Arc<Store>) -> Backup {
        Backup { data_dir: data_dir.to_path_buf(), key: seed.data(), store, issuer: None, making: Mutex::default() }
    }

    /// The same, with what our own board sells from.
    pub(crate) fn with_issuer(self, issuer: Option<Arc<Store>>) -> Backup {
        Backup { issuer, ..self }
    }

    /// The backup. Blocks while files are copied.
    pub(crate) fn make(&self) -> Result<Vec<u8>, BackupError> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = self.data_dir.join(SCRATCH);
        clear(&scratch)?;
        DirBuilder::new().recursive(true).mode(0o700).create(scratch.join("node")).map_err(file_trouble(&scratch))?;
        let made = self.copy(&scratch);
        clear(&scratch)?;
        made
    }

    fn copy(&self, scratch: &Path) -> Result<Vec<u8>, BackupError> {
        // The log first: a node that knows more than the log is what every restart meets, the other way round is not.
        self.store.copy_to(&scratch.join("trades.sqlite"))?;
        if let Some(issuer) = &self.issuer {
            issuer.copy_to(&scratch.join(issuer::FILE))?;
        }
        let node = self.data_dir.join("node");
        if node.join("node.sqlite").exists() {
            node_ldk::snapshot(&node, &scratch.join("node"))?;
        }
        let mut files = Vec::new();
        for name in FILES {
            let from = if name == config::FILE { &self.data_dir } else { scratch }.join(name);
            match fs::read(&from) {
                Ok(bytes) => files.push((name, bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(file_trouble(&from)(error)),
            }
        }
        let seed = self.data_dir.join(SEED);
        let seed = fs::read(&seed).map_err(file_trouble(&seed))?;
        let size: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        if size > BACKUP_BYTES_MAX {
            return Err(BackupError::TooLarge(size));
        }
        seal(&self.key, &seed, &files)
    }
}

fn clear(dir: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_trouble(dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn seal(key: &[u8; 32], seed_file: &[u8], files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, BackupError> {
    let mut plain = Zeroizing::new(Vec::new());
    for (name, bytes) in files {
        plain.extend(u16::try_from(name.len()).unwrap_or_default().to_be_bytes());
        plain.extend(name.as_bytes());
        plain.extend((bytes.len() as u64).to_be_bytes());
        plain.extend(bytes);
    }
    let length = u16::try_from(seed_file.len()).map_err(|_| BackupError::Unreadable("the seed file is too long"))?;
    let fresh = post::entropy().map_err(|error| BackupError::Entropy(error.to_string()))?;
    let mut backup = [&MAGIC[..], &length.to_be_bytes(), seed_file].concat();
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&fresh[..NONCE_BYTES]);
    backup.extend(nonce);
    let sealed =
        XChaCha20Poly1305::new(key.into()).encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: &backup });
    backup.extend(sealed.map_err(|_| BackupError::Sealed)?);
    Ok(backup)
}

/// A backup as it was read, before its seed is unlocked.
pub struct SealedBackup<'a> {
    header: &'a [u8],
    seed_file: &'a [u8],
    nonce: &'a [u8; NONCE_BYTES],
    sealed: &'a [u8],
}

impl<'a> SealedBackup<'a> {
    /// Looks at the outside of a backup.
    pub fn read(bytes: &'a [u8]) -> Result<SealedBackup<'a>, BackupError> {
        let short = || BackupError::Unreadable("it is cut short");
        let rest = bytes.strip_prefix(&MAGIC[..]).ok_or(BackupError::Unreadable("it begins differently"))?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
        let (seed_file, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(short)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(short)?;
        let header = &bytes[..bytes.len() - sealed.len()];
        Ok(SealedBackup { header, seed_file, nonce, sealed })
    }

    /// The seed file in it, to be unlocked by its passphrase.
    pub fn seed_file(&self) -> &[u8] {
        self.seed_file
    }

    /// Opens it.
    pub fn open(&self, seed: &Seed) -> Result<OpenBackup, BackupError> {
        let cipher = XChaCha20Poly1305::new((&*seed.data()).into());
        let payload = Payload { msg: self.sealed, aad: self.header };
        let plain = cipher.decrypt(&XNonce::from(*self.nonce), payload).map_err(|_| BackupError::Sealed)?;
        let plain = Zeroizing::new(plain);
        let (mut rest, mut files) = (&plain[..], Vec::new());
        let short = || BackupError::Unreadable("a file in it is cut short");
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<2>().ok_or_else(short)?;
            let (name, after) = after.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(short)?;
            let (length, after) = after.split_first_chunk::<8>().ok_or_else(short)?;
            let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| short())?;
            let (bytes, after) = after.split_at_checked(length).ok_or_else(short)?;
            let known = FILES.iter().find(|known| known.as_bytes() == name);
            files.push((*known.ok_or(BackupError::Unreadable("it holds a file of another version"))?, bytes.to_vec()));
            rest = after;
        }
        Ok(OpenBackup { files })
    }
}

/// The files of a backup.
pub struct OpenBackup {
    files: Vec<(&'static str, Vec<u8>)>,
}

impl OpenBackup {
    /// The configuration in it.
    pub fn config(&self) -> Option<&str> {
        self.files.iter().find(|(name, _)| *name == config::FILE).and_then(|(_, bytes)| std::str::from_utf8(bytes).ok())
    }

    /// Writes everything but the configuration into `data_dir`, and first of all the mark that makes the first start ask the boards for
    /// what is newer. Durable on return.
    pub fn write(&self, data_dir: &Path) -> Result<(), BackupError> {
        write_private(&data_dir.join(MARK), b"0")?;
        for (name, bytes) in self.files.iter().filter(|(name, _)| *name != config::FILE) {
            let path = data_dir.join(name);
            if let Some(folder) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file_trouble(folder))?;
            }
            write_private(&path, bytes)?;
        }
        for folder in [data_dir.join("node"), data_dir.to_path_buf()] {
            if folder.exists() {
                File::open(&folder).and_then(|folder| folder.sync_all()).map_err(file_trouble(&folder))?;
            }
        }
        Ok(())
    }
}

/// Writes a file that is not there yet, readable by its owner only.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(file_trouble(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_opens_with_its_seed_and_unchanged_only() {
        let (seed, other) = (Seed::generate(&[1; 32]), Seed::generate(&[2; 32]));
        let files = [(config::FILE, b"network = 1".to_vec()), ("trades.sqlite", vec![7; 1000])];
        let backup = seal(&seed.data(), b"the seed file", &files).unwrap();
        let sealed = SealedBackup::read(&backup).unwrap();
        assert_eq!(sealed.seed_file(), b"the seed file");
        let open = sealed.open(&seed).unwrap();
        assert_eq!((open.config(), &open.files[1].1), (Some("network = 1"), &vec![7; 1000]));
        assert!(matches!(sealed.open(&other), Err(BackupError::Sealed)));
        for at in 0..backup.len() {
            let mut changed = backup.clone();
            changed[at] ^= 1;
            let opens = SealedBackup::read(&changed).is_ok_and(|sealed| sealed.open(&seed).is_ok());
            assert!(!opens, "byte {at} may be changed");
        }
        for length in 0..backup.len() {
            assert!(!SealedBackup::read(&backup[..length]).is_ok_and(|sealed| sealed.open(&seed).is_ok()));
        }
    }

    #[test]
    fn only_files_of_a_data_directory_are_taken() {
        let seed = Seed::generate(&[1; 32]);
        let backup = seal(&seed.data(), b"", &[("../outside", Vec::new())]).unwrap();
        assert!(matches!(SealedBackup::read(&backup).unwrap().open(&seed), Err(BackupError::Unreadable(_))));
    }

    #[test]
    fn what_is_written_is_marked_and_private_and_overwrites_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, seed) = (tempfile::tempdir().unwrap(), Seed::generate(&[1; 32]));
        let backup = seal(&seed.data(), b"", &[("node/node.sqlite", vec![1])]).unwrap();
        let open = SealedBackup::read(&backup).unwrap().open(&seed).unwrap();
        open.write(dir.path()).unwrap();
        assert!(dir.path().join(MARK).exists());
        let written = dir.path().join("node/node.sqlite");
        assert_eq!(fs::metadata(&written).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(open.write(dir.path()).is_err());
    }
}
