//! PostgreSQL's program files, which a package manager may replace under the running server. From then on its new
//! processes cannot load their libraries, while old ones go on: it has to be restarted.

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

/// How often the files are looked at. They are restarted with once two looks have found the same.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(2);

/// The running server, and what is to become of it.
#[derive(Debug)]
pub(super) struct Server {
    /// Where its programs are.
    pub bin: PathBuf,
    pub state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// None between two lives: once the child is reaped its number may belong to somebody else.
    pub pid: Option<Pid>,
    pub wish: Wish,
}

/// What is to become of the server when it ends.
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

    /// Sends the signal that stops it for good.
    pub fn stop(&self, signal: Signal) {
        let mut state = self.state();
        state.wish = Wish::Stop;
        if let Some(pid) = state.pid {
            account::send(signal, pid);
        }
    }

    /// Ends all connections, and has it started again.
    fn restart(&self) {
        let mut state = self.state();
        if let (Wish::Serve, Some(pid)) = (state.wish, state.pid) {
            state.wish = Wish::Restart;
            account::send(Signal::SIGINT, pid);
        }
    }

    /// It has ended: whether it is to be started again.
    pub fn is_to_restart(&self) -> bool {
        let mut state = self.state();
        state.pid = None;
        state.wish == Wish::Restart
    }

    /// It has been started again. It may have been told to stop meanwhile.
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

/// The files that tell an upgrade: the server, and the library that every function of ours needs.
pub(super) struct Programs([PathBuf; 2]);

/// Device, inode, size and time of change of each; none where one is missing.
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

    /// Restarts the server whenever they have changed, until it has ended.
    pub async fn watch(self, server: Arc<Server>, mut ended: watch::Receiver<bool>) {
        let mut running = self.look();
        let mut before = running.clone();
        while timeout(LOOKED_AT_EVERY, ended.wait_for(|ended| *ended))
            .await
            .is_err()
        {
            let now = self.look();
            // While they are being replaced, and after they have been removed, there is nothing to start.
            if now == before && now != running && now.is_some() {
                warn!("PostgreSQL's programs have changed under it: it is restarted");
                server.restart();
                running.clone_from(&now);
            }
            before = now;
        }
    }
}
