//! Finds PostgreSQL's programs: installed on this machine, or fetched into the data directory.

use std::{
    env,
    ffi::OsString,
    iter,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, ensure};
use glob::{Pattern, glob};

use super::{
    account::Account,
    data_dir::{DataDir, OLDEST_MAJOR},
};
use crate::config::{Binaries, BinariesFrom};

/// The places where packages put PostgreSQL: Debian, Red Hat, Alpine, Homebrew on three systems, Postgres.app, source
/// builds.
const USUAL_DIRS: [&str; 10] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/bin",
    "/usr/local/bin",
];

/// The directory of the first usable `postgres` and `initdb`. If there is a cluster, they are of its major version.
pub(super) fn find(
    wanted: &Binaries,
    cluster_major: Option<u32>,
    account: &Account,
    files: &DataDir,
) -> Result<PathBuf> {
    let is_usable = |major| cluster_major.map_or(major >= OLDEST_MAJOR, |needed| major == needed);
    let mut refused = String::new();
    let mut seen = Vec::new();
    let fetched = Pattern::escape(&files.binaries().to_string_lossy()) + "/*/bin";
    // pg_config has to be started, and is rarely needed. So it is asked last.
    let installed = path_dirs()
        .chain(iter::once_with(pg_config_dir).flatten())
        .chain(USUAL_DIRS.iter().flat_map(|pattern| matching(pattern)))
        .filter(|_| wanted.postgresql_binaries != BinariesFrom::Fetched);
    let fetched = matching(&fetched)
        .into_iter()
        .filter(|_| wanted.postgresql_binaries != BinariesFrom::Installed);
    for dir in installed.chain(fetched) {
        let is_complete = ["postgres", "initdb"]
            .iter()
            .all(|name| dir.join(name).is_file());
        if !dir.is_absolute() || !is_complete || seen.contains(&dir) {
            continue;
        }
        let reason = match major_of(account, &dir) {
            Ok(major) if is_usable(major) => return Ok(dir),
            Ok(major) => format!("it is version {major}"),
            Err(error) => format!("{error:#}"),
        };
        refused += &format!("\n  {} cannot be used: {reason}", dir.display());
        seen.push(dir);
    }
    let outcome = if wanted.postgresql_binaries == BinariesFrom::Installed {
        Err(anyhow!(
            "POSTGRESQL_BINARIES=installed forbids fetching one"
        ))
    } else {
        fetch(wanted, cluster_major, files).and_then(|dir| {
            // This happens on a system with another C library.
            let works = major_of(account, &dir).map(|_| dir);
            works.map_err(|error| anyhow!("the fetched one does not run here ({error:#})"))
        })
    };
    outcome.map_err(|reason| match cluster_major {
        None => anyhow!(
            "there is no PostgreSQL {OLDEST_MAJOR} or newer to run: {reason:#}. Install it \
             (`apt-get install postgresql`, `brew install postgresql`), or set DATABASE_URL to a database \
             that you run{refused}"
        ),
        Some(major) => anyhow!(
            "{} was made by PostgreSQL {major}, and no PostgreSQL {major} was found: {reason:#}. Install it \
             (`apt-get install postgresql-{major}`, `brew install postgresql@{major}`), or choose another \
             DATA_DIR{refused}",
            files.cluster().display()
        ),
    })
}

#[cfg(feature = "download")]
use super::download::fetch;

#[cfg(not(feature = "download"))]
fn fetch(_: &Binaries, _: Option<u32>, _: &DataDir) -> Result<PathBuf> {
    anyhow::bail!("this speedcoding was built without the feature `download`")
}

#[expect(clippy::disallowed_methods, reason = "PATH is no setting of ours")]
pub(super) fn path_dirs() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

fn pg_config_dir() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(OsString::from_vec(output.stdout.trim_ascii().to_vec()).into())
}

/// The paths that a pattern matches, the highest version first.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = glob(pattern).into_iter().flatten().flatten().collect();
    // The paths are compared as text. Majors of one digit would come first, but they are too old anyway.
    found.sort_unstable_by(|left, right| right.cmp(left));
    found
}

/// Asks the program itself, under the server's account, which also shows that this account may run it.
fn major_of(account: &Account, bin: &Path) -> Result<u32> {
    let output = account
        .command(&bin.join("postgres"))
        .arg("--version")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it says: {}", said.trim());
    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1); 19beta1
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    let digits = version.split(|c: char| !c.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("it calls itself \"{}\"", text.trim()))
}
