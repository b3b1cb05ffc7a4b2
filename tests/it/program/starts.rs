//! The needs of the program at its start, and its messages if something is missing.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
};

use crate::support::program::{Scratch, install_script, is_alive, is_root, tell_untold};

use super::{SERVES, log_in};

#[tokio::test]
async fn a_second_instance_and_a_taken_port_are_told_and_harm_nobody() {
    let scratch = Scratch::new();
    let first = scratch.program(SERVES).serve().await;
    let alice = first.visitor().register("alice").await;
    let postmaster = first.postmaster();

    let data_dir = scratch.path("data").display().to_string();
    scratch.program(SERVES).finish().await.told(&[&format!(
        "speedcoding: speedcoding (process {}) already uses the DATA_DIR {data_dir}: stop it, or choose another",
        first.pid()
    )]);

    let address = first.base.trim_start_matches("http://").to_owned();
    scratch
        .program(SERVES)
        .env("BIND", &address)
        .env("DATA_DIR", scratch.path("other"))
        .finish()
        .await
        .told(&[&format!("cannot listen on {address}"), "BIND=", "in use"]);
    assert!(
        !scratch.path("other").exists(),
        "the program says so before it creates any files"
    );

    alice.get("/auth/me").await.ok(200);
    assert_eq!(first.postmaster(), postmaster);
    assert!(is_alive(postmaster));
    first.stop().await.well();
}

#[tokio::test]
async fn without_a_postgresql_the_remedies_are_named() {
    // An empty directory hides the machine's own binaries.
    let isolation = ["--mount", "sh", "-c"];
    let hide = r#"for dir in /usr/lib/postgresql /usr/local/pgsql /usr/libexec/postgresql; do
        if [ -d "$dir" ]; then mount --bind empty "$dir" || exit 99; fi
      done
      for file in /usr/local/bin/postgres /usr/bin/postgres; do
        if [ -f "$file" ]; then mount --bind /dev/null "$file" || exit 99; fi
      done
      exec "$@""#;
    let can_isolate = std::process::Command::new("unshare")
        .args(["--mount", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !can_isolate {
        tell_untold(
            "a machine without PostgreSQL",
            "root, who may mount and unshare",
        );
        return;
    }
    let scratch = Scratch::new();
    for name in ["empty", "old"] {
        fs::create_dir(scratch.path(name)).expect("a directory");
    }
    let wrapper = [&isolation[..], &[hide, "sh"]].concat();
    let launch = || {
        scratch
            .program(SERVES)
            .env("POSTGRESQL_BINARIES", "installed")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .through("unshare", &wrapper)
    };
    launch()
        .finish()
        .await
        .told(&["no PostgreSQL 15 or newer", "DATABASE_URL"]);

    for name in ["postgres", "initdb"] {
        let program = scratch.path("old").join(name);
        install_script("echo 'postgres (PostgreSQL) 14.9'", &program);
    }
    let old = scratch.path("old").display().to_string();
    let ended = launch()
        .env("PATH", format!("{old}:/usr/sbin:/usr/bin:/sbin:/bin"))
        .finish()
        .await;
    let too_old = format!("{old} cannot be used: it is version 14");
    assert!(ended.stderr.contains(&too_old), "{}", ended.stderr);
    ended.told(&["no PostgreSQL 15 or newer"]);
}

#[tokio::test]
async fn a_normal_user_needs_no_root() {
    let scratch = Scratch::new();
    if !is_root() {
        // In this case all other stories run as a normal user, too. So this one does nothing special.
        let program = scratch.program(SERVES).serve().await;
        program.visitor().register("alice").await;
        program.stop().await.well();
        return;
    }
    let (uid, gid) = nobody();
    let home = scratch.path("home");
    fs::create_dir(&home).expect("a directory");
    chown(&home, Some(uid), Some(gid)).expect("an owner");
    let launch = || {
        scratch
            .program(SERVES)
            .env("DATA_DIR", home.join("data"))
            .under_account(uid, gid, &scratch.path("speedcoding"))
    };

    let program = launch().serve().await;
    let server = format!("/proc/{}", program.postmaster());
    assert_eq!(fs::metadata(server).expect("a process").uid(), uid);
    program
        .visitor()
        .register("alice")
        .await
        .complete_run()
        .await;
    program.stop().await.well();
    let mode = fs::metadata(home.join("data")).expect("a directory").mode();
    assert_eq!(mode & 0o777, 0o700);
    let nowhere = launch().env("DATA_DIR", "/nonexistent/data").finish().await;
    nowhere.told(&[
        "DATA_DIR /nonexistent/data",
        "choose another",
        "Permission denied",
    ]);

    let program = launch().serve().await;
    log_in(&program, "alice").await;
    program.stop().await.well();
}

/// The account `nobody`, which owns nothing.
fn nobody() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("accounts");
    let line = passwd.lines().find(|line| line.starts_with("nobody:"));
    let fields: Vec<_> = line.expect("nobody").split(':').collect();
    let number = |at: usize| fields[at].parse().expect("a number");
    (number(2), number(3))
}

#[tokio::test]
async fn as_root_the_server_runs_under_an_account_without_rights() {
    if !is_root() {
        tell_untold("PostgreSQL under an account of its own", "root");
        return;
    }
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let server = format!("/proc/{}", program.postmaster());
    assert_ne!(fs::metadata(server).expect("a process").uid(), 0);
    let secrets = fs::metadata(scratch.path("data/embedded.env")).expect("secrets");
    assert_eq!(secrets.uid(), 0);
    program.stop().await.well();

    // A data directory that this account cannot enter is named, with the remedy.
    let closed = scratch.path("closed");
    fs::create_dir(&closed).expect("a directory");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("permissions");
    scratch
        .program(SERVES)
        .env("DATA_DIR", closed.join("data"))
        .finish()
        .await
        .told(&["cannot enter", "choose a DATA_DIR", "/var/lib/speedcoding"]);
}
