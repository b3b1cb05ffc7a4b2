//! The logs of supervised programs: each is a file of bounded size, and its predecessor.
//!
//! Visitors can make some programs log as much as they like. So a program writes into a pipe, and the service writes
//! the file and bounds its size.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write, pipe},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use fs_err::{self as fs, os::unix::fs::OpenOptionsExt};

/// A file that would become larger is renamed to `….log.1`, which replaces the predecessor. Then a new file begins.
const LIMIT_BYTES: u64 = 10 * 1024 * 1024;
/// The number of bytes, and of lines among them, that an error message shows.
const LAST_BYTES: usize = 16 * 1024;
const LAST_LINES: usize = 15;
/// How long the service waits for a program's last lines after its end. Another program may still hold the pipe.
const ARRIVE_WITHIN: Duration = Duration::from_secs(1);

/// The output of one run of a program.
pub(super) struct Log {
    path: PathBuf,
    last: Arc<Mutex<Vec<u8>>>,
    closed: Receiver<()>,
}

impl Log {
    /// Opens the log, and returns the pipe for the program too. A thread reads the pipe until the program and its
    /// children have closed it.
    pub fn open(path: &Path) -> io::Result<(PipeWriter, Self)> {
        let (from, into) = pipe()?;
        let mut log_file = LogFile::open(path)?;
        let last = Arc::new(Mutex::new(Vec::new()));
        let (tell, closed) = channel();
        let heard = last.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                follow(from, |bytes| {
                    keep_last(
                        &mut heard.lock().unwrap_or_else(PoisonError::into_inner),
                        bytes,
                    );
                    // The disk may be full. The program must not wait for that, so the bytes are lost.
                    let _ = log_file.write(bytes);
                });
                let _ = tell.send(());
            })?;
        let path = path.to_owned();
        Ok((into, Log { path, last, closed }))
    }

    /// The last lines of this run.
    pub fn tail(&self) -> String {
        let _ = self.closed.recv_timeout(ARRIVE_WITHIN);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&last);
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(LAST_LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }

    /// The last lines of this run, with the path of the log.
    pub fn last_words(&self) -> String {
        format!(
            "the last lines of {}:\n{}",
            self.path.display(),
            self.tail()
        )
    }
}

fn follow(mut pipe: PipeReader, mut hear: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match pipe.read(&mut buffer) {
            Ok(count @ 1..) => hear(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn keep_last(last: &mut Vec<u8>, bytes: &[u8]) {
    last.extend_from_slice(bytes);
    let surplus = last.len().saturating_sub(LAST_BYTES);
    last.drain(..surplus);
}

struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?
            .into_file();
        Ok(LogFile {
            path: path.to_owned(),
            length: file.metadata()?.len(),
            file,
        })
    }

    /// Appends a piece. If the file would become too large and no new file can be begun, nothing is written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = bytes.len() as u64;
        if self.length + count > LIMIT_BYTES {
            fs::rename(&self.path, self.path.with_added_extension("1"))?;
            *self = Self::open(&self.path)?;
        }
        self.length += count;
        self.file.write_all(bytes)
    }
}
