//! How the program ends: by a signal, in the middle of a start, with requests under way, or killed.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use crate::support::{
    actor::text,
    postgrest::{pretend_postgrest, pretended},
    program::{Scratch, is_alive, send, until},
};

use super::{SERVES, log_in, returning};

#[tokio::test]
async fn the_first_start_serves_a_whole_run_and_sigterm_stops_both_processes() {
    let scratch = Scratch::new();
    // Without any argument, as the README says.
    let program = scratch.program(&[]).serve().await;
    let postmaster = program.postmaster();
    assert!(is_alive(postmaster));

    let visitor = program.visitor();
    visitor.get("/health/ready").await.ok(200);
    let ended = visitor.register("alice").await.complete_run().await;
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["submission"]["status"], "PENDING");

    program.stop().await.well();
    assert!(!is_alive(postmaster), "PostgreSQL has stopped first");
    assert!(!scratch.path("data/postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn ctrl_c_stops_both_processes_although_a_client_stays_connected() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let postmaster = program.postmaster();
    // The client keeps its connection for the next request, which never comes.
    let idle = program.visitor();
    idle.get("/health/live").await.ok(200);

    let began = Instant::now();
    program.signal("INT");
    program.ended().await.well();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "an idle connection does not use up the time that is for requests under way"
    );
    assert!(!is_alive(postmaster));
    drop(idle);
}

#[tokio::test]
async fn a_start_that_is_stopped_half_way_leaves_nothing_running() {
    let scratch = Scratch::new();
    let pid_file = scratch.path("data/postgres/postmaster.pid");
    let launch = async |words: &str| {
        let program = scratch.program(SERVES).start();
        program.says(words).await;
        program
    };
    // In the first start each of these moments lasts a while.
    for (signal, moment) in [
        ("INT", "initialising PostgreSQL"),
        ("TERM", "PostgreSQL is ready"),
    ] {
        let program = launch(moment).await;
        program.signal(signal);
        let ended = program.ended().await.well();
        assert!(!ended.stdout.contains("Ctrl-C stops it."), "{ended:?}");
        assert!(!pid_file.exists(), "{moment}");
        fs::remove_dir_all(scratch.path("data")).expect("a removed directory");
    }
    // A command that starts PostgreSQL for itself fails, because it has done nothing.
    let program = scratch.program(&["migrate"]).start();
    program.says("initialising PostgreSQL").await;
    program.signal("INT");
    program.ended().await.told(&["stopped by a signal"]);
    assert!(!pid_file.exists());
    // In later starts these moments are short. One of the signals comes in each of them.
    scratch.program(SERVES).serve().await.stop().await.well();
    let began = Instant::now();
    scratch.program(SERVES).serve().await.stop().await.well();
    let whole = began.elapsed();
    for part in 1..20 {
        let program = scratch.program(SERVES).start();
        tokio::time::sleep(whole * part / 20).await;
        program.signal("INT");
        let ended = program.ended().await;
        let unheard = ended.status.code().is_none() && ended.stderr.is_empty();
        assert!(ended.status.success() || unheard, "{part}: {ended:?}");
        assert!(!pid_file.exists(), "{part}: {ended:?}");
    }
}

#[cfg(feature = "download")]
#[tokio::test]
async fn a_start_that_hangs_is_given_up_at_the_second_signal() {
    let scratch = Scratch::new();
    // This mirror takes a request and does not answer.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let program = scratch
        .program(SERVES)
        .env("POSTGRESQL_BINARIES", "fetched")
        .env("POSTGRESQL_RELEASES_URL", format!("http://{address}/"))
        .start();
    let _asked = silent.accept().expect("a request");
    program.signal("INT");
    program.says("a second Ctrl-C ends it at once").await;
    program.signal("INT");
    program.ended().await.well();
}

#[tokio::test]
async fn requests_under_way_may_finish_until_a_second_signal() {
    let scratch = Scratch::new();
    let (notes, path) = pretend_postgrest(&scratch);
    for signals in [["INT", "INT"], ["TERM", "TERM"], ["INT", "TERM"]] {
        let _ = fs::remove_file(notes.join("pid"));
        let program = scratch
            .program(SERVES)
            .env("PATH", &path)
            .env("SHUTDOWN_TIMEOUT", "600")
            .env("REQUEST_TIMEOUT", "600")
            .serve()
            .await;
        let (postmaster, postgrest) = (program.postmaster(), pretended(&notes, None).await);
        // The rest of this body never comes.
        let address = program.base.trim_start_matches("http://");
        let mut under_way = TcpStream::connect(address).expect("a connection");
        let request = "POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\n\
            Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n";
        under_way.write_all(request.as_bytes()).expect("a request");
        // The service asks for the rest, so the request is under way.
        under_way.read_exact(&mut [0; 12]).expect("an answer");

        program.signal(signals[0]);
        program
            .says("stopping: requests under way have 600 s to finish; a second Ctrl-C ends them at once")
            .await;
        assert!(is_alive(postmaster) && is_alive(postgrest), "it waits");
        program.signal(signals[1]);
        let ended = program.ended().await.well();
        assert!(!is_alive(postmaster) && !is_alive(postgrest));
        assert!(
            ended
                .stderr
                .contains("PostgreSQL has ended (exit status: 0)")
        );
        assert!(!scratch.path("data/postgres/postmaster.pid").exists());
    }
}

#[tokio::test]
async fn data_and_secrets_survive_a_restart_and_are_nobody_elses() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let alice = program.visitor().register("alice").await;
    let session = alice.start("freestyle").await;
    let secrets = fs::read_to_string(scratch.path("data/embedded.env")).expect("secrets");
    program.stop().await.well();

    let program = scratch.program(SERVES).serve().await;
    let before = returning(&program, &alice);
    before.get("/auth/me").await.ok(200);
    let running = before.get("/sessions/current").await.ok(200);
    assert_eq!(text(&running, "/id"), session);
    log_in(&program, "alice").await;

    let kept = fs::read_to_string(scratch.path("data/embedded.env")).expect("secrets");
    assert_eq!(kept, secrets);
    for name in ["embedded.env", "postgres.log", "lock"] {
        let mode = fs::metadata(scratch.path("data").join(name))
            .expect(name)
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let cluster = fs::metadata(scratch.path("data/postgres")).expect("a cluster");
    assert_eq!(cluster.mode() & 0o777, 0o700);
    let data_dir = fs::metadata(scratch.path("data")).expect("a directory");
    assert_eq!(data_dir.mode() & 0o066, 0, "other users cannot list it");
    program.stop().await.well();
}

#[tokio::test]
async fn after_a_kill_of_the_service_the_next_start_recovers() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let alice = program.visitor().register("alice").await;
    let session = alice.start("freestyle").await;
    let orphan = program.postmaster();
    program.signal("KILL");
    assert_eq!(program.ended().await.status.code(), None);

    // The program starts at once. The orphaned server may still be there.
    let program = scratch.program(SERVES).serve().await;
    let alice = log_in(&program, "alice").await;
    let running = alice.get("/sessions/current").await.ok(200);
    assert_eq!(text(&running, "/id"), session);
    assert!(!is_alive(orphan));
    program.stop().await.well();
}

#[tokio::test]
async fn when_postgresql_is_killed_the_service_says_so_and_the_next_start_recovers() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let alice = program.visitor().register("alice").await;
    let session = alice.start("freestyle").await;
    send(program.postmaster(), "KILL");
    let said = program
        .ended()
        .await
        .told(&["PostgreSQL has ended by itself", "postgres.log says why"]);
    assert!(
        said.contains(&scratch.path("data").display().to_string()),
        "{said}"
    );

    let program = scratch.program(SERVES).serve().await;
    let alice = log_in(&program, "alice").await;
    let running = alice.get("/sessions/current").await.ok(200);
    assert_eq!(text(&running, "/id"), session);
    program.stop().await.well();
}

#[tokio::test]
async fn a_first_start_that_is_killed_half_way_is_done_anew() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).start();
    until("initdb is under way", async || {
        let entries = fs::read_dir(scratch.path("data")).ok()?;
        entries.flatten().find(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("unfinished-")
                && entry.path().join("cluster").exists()
        })
    })
    .await;
    program.signal("KILL");
    program.ended().await;

    let program = scratch.program(SERVES).serve().await;
    program.visitor().register("alice").await;
    program.stop().await.well();
    let names = fs::read_dir(scratch.path("data")).expect("a directory");
    let left: Vec<_> = names
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("unfinished"))
        .collect();
    assert_eq!(left, [""; 0]);
}
