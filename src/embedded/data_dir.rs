//! The data directory: its files, its owner, and the remains of earlier servers.

use std::{
    fs::{File, Permissions, TryLockError},
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fs_err::{self as fs, OpenOptions, os::unix::fs::OpenOptionsExt};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;
use tracing::warn;

/// The oldest major version that the migrations run on.
pub(super) const OLDEST_MAJOR: u32 = 15;
/// The maximum length of a Unix socket's path. The kernels differ by four bytes.
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// If the service runs as root, the cluster belongs to another account. The service does not follow links, because that
/// account may have made them.
pub(super) const NO_LINK: i32 = nix::fcntl::OFlag::O_NOFOLLOW.bits();
/// The beginning of the names of working directories.
const UNFINISHED: &str = "unfinished-";
/// All processes of a killed start end well within this time.
const STRAGGLER_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct DataDir {
    /// The absolute path without links, so that a server's command line shows which directory it uses.
    path: PathBuf,
}

impl DataDir {
    /// A directory that is there already.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        Ok(Self { path })
    }

    pub fn create(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            fs::create_dir_all(path)?;
            // The server's account must pass through, whatever root's umask is.
            let mode = if Uid::effective().is_root() {
                0o711
            } else {
                0o700
            };
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        let is_ours = |name: &str| path.join(name).exists();
        if fs::read_dir(path)?.next().is_some() && !is_ours("lock") && !is_ours("embedded.env") {
            return Err(io::Error::new(
                io::ErrorKind::DirectoryNotEmpty,
                "it holds other things",
            ));
        }
        Self::open(path)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn cluster(&self) -> PathBuf {
        self.path.join("postgres")
    }

    pub fn env_file(&self) -> PathBuf {
        self.path.join("embedded.env")
    }

    pub fn binaries(&self) -> PathBuf {
        self.path.join("binaries")
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    pub fn postgrest_log(&self) -> PathBuf {
        self.path.join("postgrest.log")
    }

    /// The directory of the server's socket, or nothing if its path would be too long.
    pub fn socket_dir(&self) -> Option<PathBuf> {
        let run = self.path.join("run");
        let bytes = run.as_os_str().as_bytes();
        // The setting is a list: these characters would split or quote it.
        let is_plain = !bytes.iter().any(|byte| matches!(byte, b',' | b'"'));
        let has_room = bytes.len() + "/.s.PGSQL.65535".len() <= SOCKET_PATH_LIMIT;
        (is_plain && has_room).then_some(run)
    }

    /// A working directory. A file or directory is made here and then moved to its place, so a crash leaves nothing
    /// half done.
    pub fn work_dir(&self) -> io::Result<TempDir> {
        tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&self.path)
    }

    /// Removes the working directories of starts that were killed. A process of such a start may still write there for
    /// a moment. Then the removal fails and is tried again. Names are never used twice, so a directory that stays does
    /// no harm.
    pub fn remove_unfinished(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !name.as_bytes().starts_with(UNFINISHED.as_bytes()) {
                continue;
            }
            let began = Instant::now();
            while let Err(error) = fs::remove_dir_all(entry.path()) {
                if error.kind() == io::ErrorKind::NotFound {
                    break;
                }
                if began.elapsed() > STRAGGLER_PATIENCE {
                    warn!("{error}");
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Locks the directory for this process, or says which other process has it. The kernel releases the lock when the
    /// file is closed, even by a crash.
    pub fn lock(&self) -> io::Result<Result<File, String>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join("lock"))?
            .into_file();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Ok(Err(pid.trim().to_owned()));
            }
        }
        file.set_len(0)?;
        writeln!(file, "{}", process::id())?;
        Ok(Ok(file))
    }

    /// The major version of the cluster, if there is one.
    pub fn major(&self) -> Result<Option<u32>> {
        let cluster = self.cluster();
        let is_vacant = fs::read_dir(&cluster).map_or(true, |mut entries| entries.next().is_none());
        if is_vacant {
            return Ok(None);
        }
        let version = fs::read_to_string(cluster.join("PG_VERSION"))
            .ok()
            .and_then(|text| text.trim().parse().ok());
        version.map(Some).with_context(|| {
            format!(
                "{} is not empty and holds no PostgreSQL cluster that can be read; move it away, \
                 or choose another DATA_DIR",
                cluster.display()
            )
        })
    }

    /// The content of the server's postmaster.pid. The server may be dead.
    pub fn postmaster(&self) -> io::Result<Option<Postmaster>> {
        Ok(self
            .pid_file()?
            .and_then(|(_, text)| Postmaster::parse(&text)))
    }

    /// The server that runs on this cluster now. Another process that has got the server's process id since does not
    /// count.
    pub fn living_postmaster(&self) -> io::Result<Option<Postmaster>> {
        let postmaster = self.postmaster()?;
        Ok(postmaster.filter(|it| is_server_of(it.pid, &self.cluster())))
    }

    /// Keeps the files of a dead server from blocking the next server if an unrelated process has the dead server's id
    /// now.
    ///
    /// PostgreSQL ignores a pid file with the id of its parent process, so this process writes its own id there. From
    /// the same file PostgreSQL takes the shared memory key, to make sure that no orphaned backend is at work. So the
    /// file must stay. Only a file that a power failure left without content is deleted, because PostgreSQL would
    /// refuse it.
    pub fn disarm(&self) -> io::Result<()> {
        if let Some((path, text)) = self.pid_file()? {
            match text.split_once('\n') {
                Some((_, rest)) => fs::OpenOptions::new()
                    .write(true)
                    .truncate(true)
                    .custom_flags(NO_LINK)
                    .open(path)?
                    .write_all(format!("{}\n{rest}", process::id()).as_bytes())?,
                None => fs::remove_file(path)?,
            }
        }
        // A socket has a lock file of its own, which could block the next server in the same way.
        let sockets = self.path.join("run");
        for entry in fs::read_dir(sockets).into_iter().flatten().flatten() {
            if entry.file_name().as_bytes().starts_with(b".s.PGSQL.") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn pid_file(&self) -> io::Result<Option<(PathBuf, String)>> {
        let path = self.cluster().join("postmaster.pid");
        let mut text = String::new();
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(NO_LINK)
            .open(&path);
        match file.and_then(|mut file| file.read_to_string(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(|_| Some((path, text))),
        }
    }
}

/// The lines of postmaster.pid that matter here.
pub(super) struct Postmaster {
    pub pid: Pid,
    pub port: u16,
    /// `starting`, `ready` or `stopping`. The server writes this line last, so it is empty early in a start.
    pub status: String,
}

impl Postmaster {
    fn parse(text: &str) -> Option<Self> {
        let line = |number| text.lines().nth(number).unwrap_or_default().trim();
        Some(Self {
            pid: Pid::from_raw(line(0).parse().ok()?),
            port: line(3).parse().unwrap_or(0),
            status: line(7).to_owned(),
        })
    }
}

/// Whether the process is a postmaster that was started on this cluster.
fn is_server_of(pid: Pid, cluster: &Path) -> bool {
    // Every account can read `cmdline`. Containers hide `cwd` even from their root.
    if Path::new("/proc/self/cmdline").exists() {
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = command_line.split(|byte| *byte == 0);
        let is_postgres = words.next().is_some_and(|word| word.ends_with(b"postgres"));
        return is_postgres && words.any(|word| word == cluster.as_os_str().as_bytes());
    }
    let output = Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
        .output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        text.contains("postgres -D ") && text.contains(&*cluster.to_string_lossy())
    })
}
