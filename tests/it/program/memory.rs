//! The program in little memory.

use std::{fs, process::Command};

use serde_json::json;

use crate::support::{actor::PASSWORD, app::TestApp, cluster::Database, program::Scratch};

use super::{log_in, url_of};

#[tokio::test]
#[cfg(target_os = "linux")]
async fn without_memory_to_hash_in_nobody_is_told_that_the_password_is_wrong() {
    let database = Database::migrated().await;
    let app = TestApp::start_on(database.clone(), |_| {}).await;
    app.runner("alice").await;
    let scratch = Scratch::new();
    let program = scratch.program(&[]).on(&url_of(&database)).serve().await;
    // A hash takes 20 MiB. There is no room for it.
    limit_memory(program.pid(), Some(8));
    let [alice, bob] =
        ["alice", "bob"].map(|name| json!({ "username": name, "password": PASSWORD }));
    for _ in 0..6 {
        let refused = program.visitor().post("/auth/login", alice.clone()).await;
        refused.problem(503, "overloaded");
    }
    let refused = program.visitor().post("/auth/register", bob).await;
    refused.problem(503, "overloaded");
    limit_memory(program.pid(), None);
    // The refusals did not count as wrong passwords of alice.
    log_in(&program, "alice").await;
    let said = program.stop().await.well().stderr;
    assert!(!said.contains("cannot be read"), "{said}");
}

/// Limits a process to its present memory and this many MiB more. `None` takes the limit away.
#[cfg(target_os = "linux")]
fn limit_memory(pid: u32, more: Option<u64>) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let size = status.split_once("VmSize:").expect("a size").1;
    let size = size.split_whitespace().next().expect("kilobytes");
    let size: u64 = size.parse().expect("a number");
    let limit = more.map(|more| ((size + more * 1024) * 1024).to_string());
    let limit = limit.unwrap_or_else(|| "unlimited".to_owned());
    let limiting = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--as={limit}:")])
        .status();
    assert!(limiting.expect("prlimit, of util-linux").success());
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn no_body_takes_more_memory_than_its_length_explains() {
    let database = Database::migrated().await;
    let scratch = Scratch::new();
    let program = scratch.program(&[]).on(&url_of(&database)).serve().await;
    limit_memory(program.pid(), Some(256));
    // The service must not repeat this long name for each of the many items. That would take gigabytes.
    let name = "k".repeat(100_000);
    for item in ["\0", "", "x"] {
        let body = json!({ &name: vec![item; 16_000] });
        let refused = program.visitor().post("/auth/login", body).await;
        let problem = refused.problem(400, "invalid_request");
        let errors = problem["errors"].as_array().expect("faults");
        assert!(errors.len() <= 100, "{}", errors.len());
    }
    program.stop().await.well();
}
