//! A PostgreSQL whose program files are replaced while it runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{until_ok, within};
use crate::support::{
    actor::text,
    program::{Scratch, is_alive},
};

#[tokio::test]
async fn a_postgresql_that_was_upgraded_under_the_service_is_restarted() {
    let scratch = Scratch::new();
    let (bin, library) = copy_of_postgresql(&scratch);
    let path = std::env::var("PATH").unwrap_or_default();
    let program = scratch
        .program(&["serve"])
        .env("PATH", format!("{}:{path}", bin.display()))
        .serve()
        .await;
    let runner = program.visitor().register("alice").await;
    runner.get("/health/ready").await.ok(200);
    let first = program.postmaster();

    // Half of an upgrade is done. The library no longer fits the server.
    let whole = scratch.path("whole.so");
    fs::rename(&library, &whole).expect("the library");
    fs::write(&library, "another library").expect("another library");
    program
        .says("PostgreSQL's programs were replaced while it runs")
        .await;
    let unready = async {
        loop {
            let answer = runner.get("/health/ready").await;
            if !answer.status.is_success() {
                let problem = answer.problem(503, "database_unavailable");
                if text(&problem, "/detail").contains("trouble with its files") {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(unready).await;
    let problem = runner
        .get("/auth/me")
        .await
        .problem(503, "database_unavailable");
    assert!(text(&problem, "/detail").contains("trouble with its files"));
    let doctor = scratch.program(&["doctor"]).finish().await;
    assert!(!doctor.status.success());
    assert!(
        doctor.stdout.contains("could not load library")
            && doctor.stdout.contains("restart PostgreSQL"),
        "{}",
        doctor.stdout
    );

    // The other half of the upgrade.
    fs::rename(&whole, &library).expect("the library");
    within(until_ok(async || runner.get("/health/ready").await)).await;
    within(until_ok(async || runner.get("/auth/me").await)).await;
    let last = program.postmaster();
    assert!(last != first && !is_alive(first));
    program.stop().await.well();
    assert!(!is_alive(last), "the restarted one stops with the service");
}

/// A PostgreSQL whose files belong to the test. Returns the folder of its programs, and its library of PL/pgSQL.
fn copy_of_postgresql(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut dirs: Vec<_> = std::env::split_paths(&path)
        .chain(debian.filter_map(|entry| Some(entry.ok()?.path().join("bin"))))
        .filter(|dir| dir.join("postgres").is_file() && dir.join("initdb").is_file())
        .collect();
    dirs.truncate(1);
    let server = dirs.pop().expect("a PostgreSQL").join("postgres");
    let server = server.canonicalize().expect("a path");
    let bin = server.parent().expect("a parent");
    let home = bin.parent().expect("a parent");
    // PostgreSQL finds its files by the relative path from its programs. The copy keeps that path.
    let root = scratch.path("root");
    let copied = root.join(home.strip_prefix("/").expect("an absolute path"));
    fs::create_dir_all(&copied).expect("a directory");
    let copy = |from: &Path, to: &Path| {
        let status = std::process::Command::new("cp")
            .arg("-r")
            .arg(from)
            .arg(to)
            .status();
        assert!(status.expect("cp, of coreutils").success());
    };
    for entry in fs::read_dir(home).expect("its files") {
        copy(&entry.expect("a file").path(), &copied);
    }
    if home.starts_with("/usr/lib") {
        std::os::unix::fs::symlink("/usr/share", root.join("usr/share")).expect("a link");
    }
    let library = ["lib/plpgsql.so", "lib/postgresql/plpgsql.so"];
    let library = library
        .iter()
        .map(|path| copied.join(path))
        .find(|path| path.is_file());
    (copied.join("bin"), library.expect("a library"))
}
