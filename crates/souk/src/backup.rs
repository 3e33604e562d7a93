//! `souk backup`, and `souk restore --backup`.

use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use daemon::backup::{BACKUP_BYTES_MAX, BackupError, SealedBackup, write_private};
use daemon::config::Config;
use keys::{Seed, SeedFile, Unlock};
use serde_json::json;

use crate::args;
use crate::client::Client;
use crate::failure::Failure;
use crate::setup;
use crate::show::Show;

/// What a backup has beside its files: the encrypted seed, lengths, a nonce and a tag.
const OUTSIDE_BYTES_MAX: u64 = 1 << 16;

fn fault(error: BackupError) -> Failure {
    Failure::fault(error.to_string())
}

/// Asks the running daemon for a backup. The file gets its name when it is whole and on disk.
pub(crate) async fn backup(client: &Client, options: &args::Backup, show: &Show) -> Result<(), Failure> {
    let out = &options.out;
    if out.exists() {
        return Err(Failure::usage(format!(
            "{} exists already and is not overwritten; name another file",
            out.display()
        )));
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot write to {}: {e}", folder.display()));
    let mut draft = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    let (mut bytes, tells) = (0_u64, !show.json && std::io::stderr().is_terminal());
    let mut take = |piece: &[u8]| {
        draft.write_all(piece)?;
        bytes += piece.len() as u64;
        if tells {
            eprint!("\r{} KiB \x1b[K", bytes / 1024);
        }
        Ok(())
    };
    let streamed = client.stream("/v1/backup", &json!({}), &mut take).await;
    if tells {
        eprint!("\r\x1b[K");
    }
    streamed?;
    draft.as_file().sync_all()?;
    draft.persist_noclobber(out).map_err(|e| Failure::fault(format!("{}: {}", out.display(), e.error)))?;
    File::open(folder)?.sync_all()?;
    let what = json!({"backup": out, "bytes": bytes});
    show.answer(&what, |_| {
        format!(
            "wrote {} ({} KiB), encrypted: the passphrase of the seed or its words open it. Keep it on another machine.",
            out.display(),
            bytes / 1024
        )
    })
}

/// Fills an empty data directory from a backup, marked so that the first start asks the boards for what is newer.
pub(crate) fn restore(data_dir: &Path, file: &Path, options: &args::Restore, show: &Show) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let read =
        File::open(file).and_then(|file| file.take(BACKUP_BYTES_MAX + OUTSIDE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|e| Failure::usage(format!("cannot read {}: {e}", file.display())))?;
    let refused = |e: BackupError| Failure::usage(format!("{}: {e}; nothing was changed", file.display()));
    let sealed = SealedBackup::read(&bytes).map_err(refused)?;
    let seed = match &options.words {
        Some(words) => setup::seed_from_words(words)?,
        None => unlock(sealed.seed_file())?,
    };
    let open = sealed.open(&seed).map_err(refused)?;
    let text = open.config().ok_or_else(|| refused(BackupError::Unreadable("it has no configuration")))?;
    let text = setup::with_boards(text, &options.boards)?;
    let config = setup::config_path(data_dir);
    Config::parse(&text, &config).map_err(|e| Failure::usage(e.to_string()))?;
    setup::only_one(options.yes, show)?;
    let passphrase = options.words.as_ref().map(|_| setup::new_passphrase()).transpose()?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    open.write(data_dir).map_err(fault)?;
    let seed_path = setup::seed_path(data_dir);
    match passphrase {
        None => write_private(&seed_path, sealed.seed_file()).map_err(fault)?,
        Some(passphrase) => {
            let made = SeedFile::create(&seed_path, &seed, Unlock::Passphrase(&passphrase), &setup::entropy()?);
            made.map_err(|e| Failure::fault(e.to_string()))?;
        }
    }
    write_private(&config, text.as_bytes()).map_err(fault)?;
    let what = json!({"data_dir": data_dir, "config": config, "backup": file});
    show.answer(&what, |_| {
        format!(
            "wrote {} from the backup\nNext: look through {}, then `souk run`: it asks the boards for what is newer than the backup, and its \
             node asks the peers to close the channels that it had. `souk status` says what was found.",
            data_dir.display(),
            config.display()
        )
    })
}

/// The seed of a backup, by its passphrase.
fn unlock(seed_file: &[u8]) -> Result<Seed, Failure> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(seed_file)?;
    let passphrase = setup::passphrase("Passphrase of the backup's seed: ")?;
    SeedFile::open(file.path(), Unlock::Passphrase(&passphrase))
        .map_err(|_| Failure::usage("the passphrase does not open the seed in the backup; --words opens it without"))
}
