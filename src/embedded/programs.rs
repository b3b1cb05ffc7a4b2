//! Watches PostgreSQL's program files. A package manager may replace them while the server runs. From then on new
//! processes of the server cannot load their libraries, while old processes go on. So the server has to be restarted.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fs_err as fs;
use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{sync::watch, time::timeout};
use tracing::warn;

use super::account;

/// How often the files are checked. After a change the server is restarted once two checks in a row have found the same
/// files.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(2);

/// The running server, and the service's plan for it.
#[derive(Debug)]
pub(super) struct Server {
    /// The directory of the server's programs.
    pub bin: PathBuf,
    pub state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// The server's process id. It is none between an end and the next start, because another process may have got the
    /// id.
    pub pid: Option<Pid>,
    pub wish: Wish,
}

/// The service's plan for the server: serve, start it again after its end, or stop it for good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wish {
    Serve,
    Restart,
    Stop,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the server for good, with this signal.
    pub fn stop(&self, signal: Signal) {
        let mut state = self.state();
        state.wish = Wish::Stop;
        if let Some(pid) = state.pid {
            account::send(signal, pid);
        }
    }

    /// Ends all connections, and has the server started again.
    fn restart(&self) {
        let mut state = self.state();
        if let (Wish::Serve, Some(pid)) = (state.wish, state.pid) {
            state.wish = Wish::Restart;
            account::send(Signal::SIGINT, pid);
        }
    }

    /// Notes that the server has ended. Returns whether it is to be started again.
    pub fn is_to_restart(&self) -> bool {
        let mut state = self.state();
        state.pid = None;
        state.wish == Wish::Restart
    }

    /// Notes that the server has been started again, and stops it if the service has decided so meanwhile.
    pub fn has_started(&self, pid: Pid) {
        let mut state = self.state();
        state.pid = Some(pid);
        if state.wish == Wish::Stop {
            account::send(Signal::SIGINT, pid);
        } else {
            state.wish = Wish::Serve;
        }
    }
}

/// The files that change with an upgrade: the server, and the library that all our functions need.
pub(super) struct Programs([PathBuf; 2]);

/// The device, inode, size and time of change of each file, or none if a file is missing.
type Looks = Option<Vec<(u64, u64, u64, i64)>>;

impl Programs {
    pub fn new(bin: &Path, libraries: &str) -> Self {
        let suffix = std::env::consts::DLL_SUFFIX;
        Programs([
            bin.join("postgres"),
            Path::new(libraries).join(format!("plpgsql{suffix}")),
        ])
    }

    fn look(&self) -> Looks {
        let looks = self.0.iter().map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.dev(), file.ino(), file.size(), file.mtime()))
        });
        looks.collect()
    }

    /// Restarts the server whenever the files have changed, until the server has ended for good.
    pub async fn watch(self, server: Arc<Server>, mut ended: watch::Receiver<bool>) {
        let mut running = self.look();
        let mut before = running.clone();
        while timeout(LOOKED_AT_EVERY, ended.wait_for(|ended| *ended))
            .await
            .is_err()
        {
            let now = self.look();
            // While the files are being replaced, and after they have been removed, no server could start.
            if now == before && now != running && now.is_some() {
                warn!("PostgreSQL's programs were replaced while it runs: PostgreSQL is restarted");
                server.restart();
                running.clone_from(&now);
            }
            before = now;
        }
    }
}
