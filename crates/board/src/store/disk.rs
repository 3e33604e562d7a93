//! Reads of files by threads that may wait for the disk, and by those that may not because others wait for them.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

thread_local! {
    /// This thread may wait for the disk.
    static WAITS: Cell<bool> = const { Cell::new(true) };
}

#[cfg(test)]
thread_local! {
    /// Of so many reads that may not wait one finds nothing in memory; 0 for none.
    pub(crate) static COLD: Cell<u64> = const { Cell::new(0) };
    static READS: Cell<u64> = const { Cell::new(0) };
}

/// Says again what was said before.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        WAITS.set(self.0);
    }
}

/// Does `work`. Unless it `may_wait`, [`read_exact_at`] gives [`io::ErrorKind::WouldBlock`] for what is not in memory.
pub(crate) fn reading<T>(may_wait: bool, work: impl FnOnce() -> T) -> T {
    let _before = Before(WAITS.replace(may_wait));
    work()
}

/// Fills `bytes` from the position `at` of `file`.
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    if WAITS.get() {
        return file.read_exact_at(bytes, at);
    }
    #[cfg(test)]
    {
        READS.set(READS.get() + 1);
        if COLD.get() > 0 && READS.get().is_multiple_of(COLD.get()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
    read_in_memory(file, bytes, at)
}

#[cfg(target_os = "linux")]
fn read_in_memory(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    use rustix::io::{ReadWriteFlags, preadv2};

    let len = bytes.len();
    match preadv2(file, &mut [io::IoSliceMut::new(bytes)], at, ReadWriteFlags::NOWAIT) {
        Ok(read) if read == len => Ok(()),
        // Only part of it is there, or the file system cannot tell, or the disk fails: who may wait sees which.
        Ok(_) | Err(_) => Err(io::ErrorKind::WouldBlock.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn read_in_memory(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_wait_reads_what_is_in_memory_or_is_sent_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "some bytes").unwrap();
        let file = File::open(&path).unwrap();
        let mut bytes = [0; 5];
        let read = reading(false, || read_exact_at(&file, &mut bytes, 5));
        assert!(read.is_ok() && bytes == *b"bytes" || read.is_err_and(|why| why.kind() == io::ErrorKind::WouldBlock));
        let beyond = reading(false, || read_exact_at(&file, &mut bytes, 6));
        assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(read_exact_at(&file, &mut bytes, 6).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        read_exact_at(&file, &mut bytes, 5).unwrap();
        assert_eq!(&bytes, b"bytes");
    }
}
