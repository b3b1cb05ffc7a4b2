//! The account under which PostgreSQL's programs run: PostgreSQL refuses to run as root.

use std::{
    env, io,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use fs_err::{self as fs, os::unix::fs::chown};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use tracing::warn;

use super::data_dir::DataDir;

pub(super) struct Account {
    /// The user and group to switch to, or none if the programs run under the service's account.
    ids: Option<(u32, u32)>,
    /// Whether `setpriv` can make the kernel stop the server if the service is killed. If it cannot, the next start
    /// stops the server.
    has_guard: bool,
}

impl Account {
    /// The service's own account. For root it is an unprivileged one: the cluster's owner, else `postgres`, else
    /// `nobody`.
    pub fn choose(files: &DataDir) -> Result<Self> {
        let mut account = Self {
            ids: None,
            has_guard: false,
        };
        if Uid::effective().is_root() {
            let (name, ids) = account_for_root(&files.cluster())?;
            account.ids = Some(ids);
            let can_enter = account
                .command(Path::new("/bin/sh"))
                .args(["-c", "cd \"$1\"", "sh"])
                .arg(files.path())
                .stderr(Stdio::null())
                .status()
                .with_context(|| {
                    format!(
                        "PostgreSQL refuses to run as root, and switching to the account {name} failed; \
                         run speedcoding as a normal user"
                    )
                })?;
            ensure!(
                can_enter.success(),
                "PostgreSQL runs as the account {name}, which cannot enter {}; choose a DATA_DIR whose parents \
                 everybody may enter, such as /var/lib/speedcoding, or run speedcoding as a normal user",
                files.path().display()
            );
        }
        account.has_guard = true;
        // The setpriv of Busybox does not have this option.
        let guarded = account
            .command(Path::new("true"))
            .stderr(Stdio::null())
            .status();
        account.has_guard = guarded.is_ok_and(|status| status.success());
        Ok(account)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what finds programs is no setting of ours"
    )]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = if self.has_guard {
            let mut setpriv = Command::new("setpriv");
            setpriv.args(["--pdeathsig", "INT"]).arg(program);
            setpriv
        } else {
            Command::new(program)
        };
        if let Some((uid, gid)) = self.ids {
            // This also drops root's further groups.
            command.uid(uid).gid(gid);
        }
        // The service's environment holds secrets that the server must not see. Only the variables that find programs
        // and libraries remain. A fixed locale gives messages that can be recognised.
        command.env_clear().env("LC_ALL", "C");
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        // The directory of the service may be closed to the other account.
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Makes the account the owner of a file that the service has created.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        match self.ids {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

/// Sends a signal to a server.
pub(super) fn send(signal: Signal, pid: Pid) {
    if let Err(error) = kill(pid, signal) {
        warn!("cannot send {signal} to PostgreSQL (process {pid}): {error}");
    }
}

fn account_for_root(cluster: &Path) -> Result<(String, (u32, u32))> {
    // An existing cluster keeps its owner, even if the system has got an account `postgres` since.
    if let Ok(metadata) = fs::symlink_metadata(cluster.join("PG_VERSION")) {
        let (uid, path) = (metadata.uid(), cluster.display());
        ensure!(
            uid != 0,
            "{path} belongs to root, and PostgreSQL refuses to run as root; give it to another account \
             (`chown -R postgres {path}`)"
        );
        return Ok((format!("with uid {uid}"), (uid, metadata.gid())));
    }
    ["postgres", "nobody"]
        .into_iter()
        .filter_map(|name| User::from_name(name).ok().flatten())
        .find(|user| !user.uid.is_root())
        .map(|user| (user.name, (user.uid.as_raw(), user.gid.as_raw())))
        .context(
            "PostgreSQL refuses to run as root, and no account to run it under was found; \
             create one (`useradd --system postgres`), or run speedcoding as a normal user",
        )
}
