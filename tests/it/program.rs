//! The program as people run it: starting, stopping, crashing, and what it says when something is wrong.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use speedcoding::db::migrate::migrate;

use crate::{
    delegation::{pretend_postgrest, pretended},
    support::{
        actor::{Actor, PASSWORD, text},
        app::{JWT_SECRET, TestApp},
        cluster::{Database, connect},
        program::{
            Program, Scratch, install_script, is_alive, is_root, postmaster, send, tell_untold,
            until,
        },
    },
};

/// The sentence with which each of these stories begins.
const SERVES: &[&str] = &["serve"];

fn url_of(database: &Database) -> String {
    database.url().expose_secret().to_owned()
}

/// A URL with something else in it.
fn changed(url: &str, change: impl FnOnce(&mut url::Url)) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    change(&mut url);
    url.to_string()
}

/// Somebody who comes with an access token from before.
fn returning(program: &Program, actor: &Actor) -> Actor {
    let mut returned = program.visitor();
    returned.token = actor.token.clone();
    returned
}

async fn log_in(program: &Program, username: &str) -> Actor {
    let visitor = program.visitor();
    let tokens = visitor
        .post(
            "/auth/login",
            json!({ "username": username, "password": PASSWORD }),
        )
        .await
        .ok(200);
    visitor.with_tokens(&tokens)
}

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
    assert!(!is_alive(postmaster), "PostgreSQL has stopped before it");
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
    // Of the first start each moment lasts a while.
    for (signal, moment) in [
        ("INT", "initialising PostgreSQL"),
        ("TERM", "PostgreSQL is ready"),
    ] {
        let program = launch(moment).await;
        program.signal(signal);
        let ended = program.ended().await.well();
        assert!(!ended.stdout.contains("Ctrl-C stops it."), "{ended:?}");
        assert!(!pid_file.exists(), "{moment}");
        fs::remove_dir_all(scratch.path("data")).expect("to begin anew");
    }
    // A command that starts it for itself says that it has done nothing.
    let program = scratch.program(&["migrate"]).start();
    program.says("initialising PostgreSQL").await;
    program.signal("INT");
    program.ended().await.told(&["stopped by a signal"]);
    assert!(!pid_file.exists());
    // Later on they are short: some signal comes in each.
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
    // A mirror that takes a request and answers nothing.
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
        // The rest of the body never comes.
        let address = program.base.trim_start_matches("http://");
        let mut under_way = TcpStream::connect(address).expect("a connection");
        let request = "POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\n\
            Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n";
        under_way.write_all(request.as_bytes()).expect("half of it");
        // Asked for the rest: it is under way.
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
#[cfg(target_os = "linux")]
async fn without_memory_to_hash_in_nobody_is_told_that_the_password_is_wrong() {
    let database = Database::migrated().await;
    let app = TestApp::start_on(database.clone(), |_| {}).await;
    app.runner("alice").await;
    let scratch = Scratch::new();
    let program = scratch.program(&[]).on(&url_of(&database)).serve().await;
    // No room for the 20 MiB of a hash.
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
    // Nor has it been counted as mistakes of hers.
    log_in(&program, "alice").await;
    let said = program.stop().await.well().stderr;
    assert!(!said.contains("cannot be read"), "{said}");
}

/// What a process has, and so many MiB more.
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
    // A long name above many items: written for each of them it would be gigabytes.
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
    assert_eq!(data_dir.mode() & 0o066, 0, "nobody else can list it");
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

    // At once: the orphaned server may still be there.
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
        "told before anything is made"
    );

    alice.get("/auth/me").await.ok(200);
    assert_eq!(first.postmaster(), postmaster);
    assert!(is_alive(postmaster));
    first.stop().await.well();
}

#[tokio::test]
async fn without_a_postgresql_the_remedies_are_named() {
    // The machine's own binaries, hidden behind an empty directory.
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
    let too_old = format!("{old} is of no use: it is version 14");
    assert!(ended.stderr.contains(&too_old), "{}", ended.stderr);
    ended.told(&["no PostgreSQL 15 or newer"]);
}

#[tokio::test]
async fn a_normal_user_needs_no_root() {
    let scratch = Scratch::new();
    if !is_root() {
        // The other stories are told as a normal user, then; nothing is special about this one.
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

/// The account that owns nothing.
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

#[tokio::test]
async fn migrate_works_on_a_database_at_rest_and_on_one_that_is_served() {
    let scratch = Scratch::new();
    let first = scratch.program(&["migrate"]).finish().await.well();
    assert!(first.stdout.starts_with("Migrated: "), "{}", first.stdout);
    assert!(
        first.stdout.contains("roles_and_schemas"),
        "{}",
        first.stdout
    );
    assert_eq!(
        postmaster(&scratch.path("data")).filter(|pid| is_alive(*pid)),
        None
    );

    let again = scratch.program(&["migrate"]).finish().await.well();
    assert_eq!(again.stdout, "The database is up to date.\n");

    let program = scratch.program(SERVES).serve().await;
    let meanwhile = scratch.program(&["migrate"]).finish().await.well();
    assert_eq!(meanwhile.stdout, "The database is up to date.\n");
    program.visitor().register("alice").await;
    program.stop().await.well();
}

#[tokio::test]
async fn set_role_appoints_the_first_moderator_and_is_audited() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let alice = program.visitor().register("Alice").await;
    let set_role = |name: &str, role: &str| scratch.program(&["users", "set-role", name, role]);
    let told = set_role("alice", "moderator").finish().await.well();
    assert_eq!(told.stdout, "Alice was runner, and is now moderator.\n");
    assert_eq!(alice.get("/auth/me").await.ok(200)["role"], "moderator");
    let url = scratch.program(&["db", "url"]).finish().await.well();
    let sql = connect(&SecretString::from(url.stdout.trim())).await;
    let audited = sql
        .query_one(
            "select details::text from private.audit_log where action = 'user.role_changed'",
            &[],
        )
        .await
        .expect("one row");
    assert_eq!(
        audited.get::<_, &str>(0),
        r#"{"to": "moderator", "from": "runner"}"#
    );

    let refused = set_role("nobody", "admin").finish().await;
    refused.told(&["there is no user \"nobody\""]);
    let refused = set_role("alice", "emperor").finish().await;
    refused.told(&["invalid value 'emperor'"]);
    drop(sql);
    program.stop().await.well();

    let told = set_role("alice", "runner").finish().await.well();
    assert_eq!(told.stdout, "Alice was moderator, and is now runner.\n");
}

#[tokio::test]
async fn set_role_needs_an_owner_a_database_and_users_in_it() {
    let scratch = Scratch::new();
    let set_role = || scratch.program(&["users", "set-role", "alice", "admin"]);
    set_role()
        .finish()
        .await
        .told(&["there are no users in", "start `speedcoding`"]);
    assert!(!scratch.path("data").exists(), "nothing was made for it");

    let database = Database::empty().await;
    let owner = url_of(&database);
    set_role().on(&owner).finish().await.told(&[
        "DATABASE_URL",
        "there are no tables yet",
        "speedcoding migrate",
    ]);
    migrate(database.url()).await.expect("migrations");
    set_role()
        .on(&owner)
        .finish()
        .await
        .told(&["there is no user \"alice\""]);
    let insert = "insert into public.users (username) values ('alice')";
    let sql = database.owner().await;
    sql.batch_execute(insert).await.expect("a user");
    let service = changed(&owner, |url| {
        url.set_username("speedcoding_api").expect("a name");
    });
    set_role()
        .on(&service)
        .finish()
        .await
        .told(&["speedcoding_api cannot appoint", "MIGRATION_DATABASE_URL"]);
    for command in [&["migrate"][..], &["seed"]] {
        let told = scratch.program(command).on(&service).finish().await;
        told.told(&["speedcoding_api cannot migrate", "MIGRATION_DATABASE_URL"]);
    }
    let told = set_role()
        .on(&service)
        .env("MIGRATION_DATABASE_URL", &owner)
        .finish()
        .await
        .well();
    assert_eq!(told.stdout, "alice was runner, and is now admin.\n");
    let told = set_role().on(&owner).finish().await.well();
    assert_eq!(told.stdout, "alice is admin already.\n");
    let audited = sql
        .query(
            "select action, details::text, database_role = current_user from private.audit_log order by id",
            &[],
        )
        .await
        .expect("the log");
    let audited: Vec<(&str, &str, bool)> = audited
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(
        audited,
        [
            ("user.registered", r#"{"role": "runner"}"#, true),
            (
                "user.role_changed",
                r#"{"to": "admin", "from": "runner"}"#,
                true
            ),
        ]
    );
}

#[tokio::test]
async fn db_url_lets_other_programs_join_while_it_runs() {
    let scratch = Scratch::new();
    scratch
        .program(&["db", "url"])
        .finish()
        .await
        .told(&["no private PostgreSQL serves", "start `speedcoding`"]);
    assert!(!scratch.path("data").exists(), "asking makes nothing");

    let program = scratch.program(SERVES).serve().await;
    program.visitor().register("alice").await;
    let printed = scratch.program(&["db", "url"]).finish().await.well().stdout;
    let url = SecretString::from(printed.trim_end());
    let count: i64 = connect(&url)
        .await
        .query_one("select count(*) from public.users", &[])
        .await
        .expect("an answer")
        .get(0);
    assert_eq!(count, 1);
    // The service itself goes by the socket.
    let by_socket: Option<bool> = connect(&url)
        .await
        .query_one(
            "select bool_and(client_addr is null) from pg_stat_activity where application_name = 'speedcoding'",
            &[],
        )
        .await
        .expect("an answer")
        .get(0);
    assert_eq!(by_socket, Some(true));

    // Nobody gets in without the password.
    let guessed = changed(url.expose_secret(), |url| {
        url.set_password(Some("postgres")).expect("a password");
    });
    let refused = tokio_postgres::connect(&guessed, tokio_postgres::NoTls).await;
    assert!(refused.is_err());

    program.stop().await.well();
    scratch
        .program(&["db", "url"])
        .finish()
        .await
        .told(&["no private PostgreSQL serves"]);
}

#[tokio::test]
async fn db_login_gives_a_url_that_serves_and_owns_nothing() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let alice = program.visitor().register("alice").await;
    let printed = scratch
        .program(&["db", "login"])
        .finish()
        .await
        .well()
        .stdout;
    let url = printed.trim_end();
    assert!(url.starts_with("postgresql://speedcoding_api:"));

    let replica = scratch.program(SERVES).on(url).serve().await;
    log_in(&replica, "alice").await.complete_run().await;
    let refused = connect(&SecretString::from(url))
        .await
        .batch_execute("delete from public.users")
        .await
        .expect_err("a refusal");
    assert_eq!(refused.code().map(|code| code.code()), Some("42501"));
    replica.stop().await.well();

    // Through Supabase's pooler the user's name tells the project.
    let owner = scratch.program(&["db", "url"]).finish().await.well().stdout;
    let owner = SecretString::from(owner.trim_end());
    connect(&owner)
        .await
        .batch_execute(
            "create role \"postgres.abcdefghijklmnopqrst\" superuser login password 'sesame-sesame'",
        )
        .await
        .expect("a role");
    let mut pooler = url::Url::parse(owner.expose_secret()).expect("a URL");
    pooler
        .set_username("postgres.abcdefghijklmnopqrst")
        .expect("a user");
    pooler
        .set_password(Some("sesame-sesame"))
        .expect("a password");
    let login = scratch.program(&["db", "login"]).on(pooler.as_str());
    let printed = login.finish().await.well().stdout;
    assert!(printed.starts_with("postgresql://speedcoding_api.abcdefghijklmnopqrst:"));

    // A new password: the old URL no longer logs in, those who are connected go on.
    scratch.program(&["db", "login"]).finish().await.well();
    alice.get("/auth/me").await.ok(200);
    scratch
        .program(SERVES)
        .on(url)
        .finish()
        .await
        .told(&["DATABASE_URL", "password authentication failed"]);
    program.stop().await.well();
}

#[tokio::test]
async fn openapi_prints_the_document_that_is_served() {
    let scratch = Scratch::new();
    let printed = scratch.program(&["openapi"]).finish().await.well().stdout;
    let document: serde_json::Value = serde_yaml_ng::from_str(&printed).expect("YAML");
    assert_eq!(
        document["openapi"].as_str().map(|version| &version[..2]),
        Some("3.")
    );
    assert!(!scratch.path("data").exists(), "it needs no database");

    let database = Database::empty().await;
    let program = scratch.program(SERVES).on(&url_of(&database)).serve().await;
    let served = program.visitor().get("/openapi.json").await.ok(200);
    assert_eq!(served, document);
    program.stop().await.well();
}

#[tokio::test]
async fn a_reader_who_has_had_enough_is_no_failure_and_a_full_disk_is_one() {
    let scratch = Scratch::new();
    let cut = scratch.program(&["openapi"]);
    // What comes is more than a pipe holds: it is still being written when the reader leaves.
    let cut = cut.through(
        "sh",
        &["-c", r#"("$@"; echo "ended $?" >&2) | head -n 1"#, "sh"],
    );
    let cut = cut.finish().await.well();
    assert_eq!(cut.stdout, "openapi: 3.0.0\n");
    assert!(cut.stderr.contains("ended 0"), "{}", cut.stderr);

    let full = scratch.program(&["openapi"]);
    let full = full.through("sh", &["-c", r#""$@" >/dev/full"#, "sh"]);
    full.finish().await.told(&["standard output"]);
}

#[tokio::test]
async fn help_names_every_command_and_setting_and_no_secret() {
    let scratch = Scratch::new();
    let help = scratch
        .program(&["--help"])
        .on("postgresql://owner:hunter22222@db.example/speedcoding")
        .env("REFRESH_SECRETS", "a refresh secret of more than 32 bytes")
        .finish()
        .await
        .well()
        .stdout;
    for word in [
        "serve",
        "migrate",
        "seed",
        "openapi",
        "db",
        "users",
        "challenges",
        "DATABASE_URL",
        "MIGRATION_DATABASE_URL",
        "DATA_DIR",
        "JWT_SECRET",
        "REFRESH_SECRETS",
        "BIND",
        "METRICS_BIND",
        "CORS_ORIGINS",
        "VIDEO_HOSTS",
        "refresh, runs",
    ] {
        assert!(help.contains(word), "{word} in\n{help}");
    }
    let version = scratch.program(&["--version"]).finish().await.well().stdout;
    assert_eq!(
        version,
        format!("speedcoding {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn the_help_of_a_command_shows_the_settings_that_count_for_it_and_it_takes_all() {
    let scratch = Scratch::new();
    for (command, shown, hidden) in [
        (
            &["migrate"][..],
            &["--database-url", "--log-format"][..],
            &["--bind", "--jwt-secret"][..],
        ),
        (
            &["users", "set-role"],
            &["--migration-database-url", "--data-dir"],
            &["--bind", "--video-hosts"],
        ),
        (
            &["challenges", "load"],
            &["<FILE>", "--data-dir"],
            &["--bind", "--db-statements"],
        ),
        (
            &["db", "url"],
            &["--data-dir"],
            &["--database-url", "--bind"],
        ),
        (
            &["keys", "public"],
            &["--jwt-keys"],
            &["--jwt-secret", "--data-dir"],
        ),
        (&["openapi"], &[], &["--data-dir", "--bind"]),
        (
            &["doctor"],
            &["--json", "--database-url", "--jwt-keys", "--postgrest-url"],
            &[],
        ),
        (
            &["serve"],
            &[
                "Database:",
                "--data-dir",
                "API:",
                "--bind",
                "--trusted-proxies",
            ],
            &[],
        ),
    ] {
        for flag in ["-h", "--help"] {
            let asked = [command, &[flag]].concat();
            let help = scratch.program(&asked).finish().await.well().stdout;
            for word in shown {
                assert!(help.contains(word), "{word} in\n{help}");
            }
            for word in hidden {
                assert!(!help.contains(word), "{word} in\n{help}");
            }
        }
    }
    for arguments in [["migrate", "--bind", "xyz"], ["--bind", "xyz", "migrate"]] {
        scratch
            .program(&arguments)
            .finish()
            .await
            .told(&["xyz", "--bind"]);
    }
}

#[tokio::test]
async fn each_wrong_setting_is_named_in_one_line() {
    let database = Database::empty().await;
    let good = url_of(&database);
    let scratch = Scratch::new();
    let external = || scratch.program(SERVES).on(&good);

    scratch
        .program(SERVES)
        .env("BIND", "xyz")
        .finish()
        .await
        .told(&["xyz", "BIND"]);
    external()
        .env("JWT_SECRET", "too short")
        .finish()
        .await
        .told(&["JWT_SECRET has 9 bytes", "at least 32"]);
    scratch
        .program(SERVES)
        .env("DATABASE_URL", &good)
        .finish()
        .await
        .told(&["JWT_SECRET is needed with DATABASE_URL"]);
    external()
        .env(
            "REFRESH_SECRETS",
            "a long one, with more than 32 bytes,short",
        )
        .finish()
        .await
        .told(&["REFRESH_SECRETS", "commas", "32"]);
    let comma = "a long one, with a comma and more than 32 bytes after it";
    external()
        .env("JWT_SECRET", comma)
        .env("REFRESH_SECRETS", format!("{JWT_SECRET},{comma}"))
        .finish()
        .await
        .told(&["JWT_SECRET has a comma", "REFRESH_SECRETS"]);
    external()
        .env("CORS_ORIGINS", "speedcoding.example/")
        .finish()
        .await
        .told(&[
            "CORS_ORIGINS",
            "speedcoding.example/",
            "https://speedcoding.example",
        ]);
    for bind in ["BIND", "METRICS_BIND"] {
        external()
            .env(bind, "localhost:8080")
            .finish()
            .await
            .told(&[bind, "localhost:8080", "such as 127.0.0.1:8080"]);
    }
    for url in ["POSTGREST_URL", "SUPABASE_URL", "POSTGRESQL_RELEASES_URL"] {
        let said = "a URL is meant, such as https://abcdefghijklmnopqrst.supabase.co or http://127.0.0.1:3000";
        external()
            .env(url, "foo")
            .finish()
            .await
            .told(&[url, "foo", said]);
    }
    external()
        .env("DB_STATEMENTS", "some")
        .finish()
        .await
        .told(&["some", "DB_STATEMENTS"]);
    external()
        .env("RUST_LOG", "speedcoding=bogus")
        .finish()
        .await
        .told(&["RUST_LOG", "warn,speedcoding=info"]);

    external()
        .env("JWT_ISSUER", "https://project.supabase.co/auth/v1")
        .finish()
        .await
        .told(&["JWT_ISSUER", "Supabase Auth"]);

    // Whatever is wrong with a URL: which one, and why; never the password in it.
    let url = |change: fn(&mut url::Url)| changed(&good, change);
    let nobody_listens = url(|url| url.set_port(Some(1)).expect("a port"));
    let wrong_password = url(|url| url.set_password(Some("a wrong one")).expect("a password"));
    let no_such_database = url(|url| url.set_path("nowhere"));
    let no_such_host = url(|url| url.set_host(Some("database.invalid")).expect("a host"));
    // What is not escaped in it must not be told as the host.
    let odd_password = "postgresql://root:pass@sesame/word@127.0.0.1:1/app";
    let odd_mode = url(|url| url.set_query(Some("sslmode=perhaps")));
    for (url, why) in [
        (
            "mysql://root:sesame-sesame@localhost/app",
            "not a PostgreSQL connection URL",
        ),
        ("sesame-sesame", "not a PostgreSQL connection URL"),
        (&nobody_listens, ":1: error connecting to server"),
        (&nobody_listens, "Connection refused"),
        (odd_password, "cannot connect to PostgreSQL: "),
        (&wrong_password, "password authentication failed"),
        (&no_such_database, "does not exist"),
        (&no_such_host, "cannot connect"),
        (&odd_mode, "sslmode=perhaps"),
    ] {
        for name in ["DATABASE_URL", "MIGRATION_DATABASE_URL"] {
            let said = external().env(name, url).finish().await.told(&[name, why]);
            assert!(!said.contains("sesame"), "{said}");
            // The other setting is not blamed.
            assert_eq!(
                said.contains("MIGRATION"),
                name.contains("MIGRATION"),
                "{said}"
            );
        }
        let said = scratch
            .program(&["migrate"])
            .env("DATABASE_URL", url)
            .finish()
            .await
            .told(&["DATABASE_URL", why]);
        assert!(!said.contains("sesame"), "{said}");
    }
    assert!(
        !scratch.path("data").exists(),
        "nothing was made on the way"
    );
}

#[tokio::test]
async fn a_database_that_never_answers_is_given_up() {
    // It accepts connections, and that is all.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address: SocketAddr = mute.local_addr().expect("an address");
    let url = format!(
        "postgresql://postgres:sesame@{address}/speedcoding?sslmode=disable&connect_timeout=1"
    );
    let scratch = Scratch::new();
    let began = Instant::now();
    scratch.program(SERVES).on(&url).finish().await.told(&[
        "DATABASE_URL",
        &format!("cannot connect to PostgreSQL at {address}: "),
        "no answer in 1 s",
    ]);
    assert!(began.elapsed() < Duration::from_secs(25));
}

#[tokio::test]
async fn an_owners_url_alone_does_not_mean_the_private_postgresql() {
    let scratch = Scratch::new();
    let owner = "postgresql://postgres:sesame-sesame@127.0.0.1:1/postgres";
    scratch
        .program(SERVES)
        .env("MIGRATION_DATABASE_URL", owner)
        .finish()
        .await
        .told(&["MIGRATION_DATABASE_URL", "`speedcoding db login`"]);
    assert!(!scratch.path("data").exists(), "nothing is started");
}

#[tokio::test]
async fn an_empty_setting_counts_as_none() {
    let scratch = Scratch::new();
    let mut program = scratch.program(SERVES).env("RUST_LOG", "");
    let settings = include_str!("../../.env.example").lines();
    let names = settings.filter_map(|line| line.strip_prefix('#')?.split_once('='));
    // Where it runs, no test can do without.
    let names = names.filter(|(name, _)| !["BIND", "DATA_DIR"].contains(name));
    for (name, _) in names.filter(|(name, _)| !name.contains(' ')) {
        program = program.env(name, "");
    }
    let program = program.serve().await;
    assert!(is_alive(program.postmaster()), "the private one serves");
    program.says("PostgreSQL is ready").await;
    program.visitor().register("alice").await;
    program.stop().await.well();
}

#[tokio::test]
async fn a_dotenv_file_is_read_the_environment_wins_and_a_broken_one_is_not_quoted() {
    let database = Database::empty().await;
    let scratch = Scratch::new();
    let dotenv = scratch.path(".env");
    let from_file = format!(
        "DATABASE_URL={}\nJWT_SECRET='{JWT_SECRET}'\nBIND=nonsense\n",
        url_of(&database)
    );
    fs::write(&dotenv, from_file).expect("a file");
    let program = scratch.program(SERVES).serve().await;
    assert!(!scratch.path("data").exists(), "DATABASE_URL was read");
    program.visitor().register("alice").await;
    program.stop().await.well();

    let jwt_secret = "JWT_SECRET is not given in the form JWT_SECRET='value'";
    for (text, line, why) in [
        ("JWT_SECRET='sesame-sesame-sesame\n", 1, jwt_secret),
        (
            "BIND=127.0.0.1:0\n\nJWT_SECRET='sesame\nLOG_FORMAT=json\n",
            3,
            jwt_secret,
        ),
        ("# open sesame\nJWT_SECRET=open sesame\n", 2, jwt_secret),
        // What looks like a name may be a part of a secret.
        (
            "JWT_SECRET='A\nB'\nSESAME=open sesame\n",
            3,
            "line 3 is not of the form NAME='value'",
        ),
        ("SESAME\n", 1, "line 1 is not of the form NAME='value'"),
    ] {
        fs::write(&dotenv, text).expect("a file");
        let line = format!(".env cannot be read: line {line}");
        let said = scratch.program(SERVES).finish().await.told(&[&line, why]);
        assert!(!said.to_lowercase().contains("sesame"), "{said}");
    }
    // Also from a folder beneath.
    fs::create_dir(scratch.path("beneath")).expect("a directory");
    let beneath = ["-c", r#"cd beneath && exec "$@""#, "sh"];
    let beneath = scratch.program(SERVES).through("sh", &beneath);
    beneath
        .finish()
        .await
        .told(&[".env cannot be read: line 1"]);
}

#[tokio::test]
async fn an_owners_url_is_migrated_and_then_served_as_the_service_role() {
    let database = Database::empty().await;
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).on(&url_of(&database)).serve().await;
    let alice = program.visitor().register("alice").await;
    alice.complete_run().await;
    assert!(!scratch.path("data").exists(), "no private one beside it");

    let owner = database.owner().await;
    let roles = owner
        .query(
            "select distinct application_name from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid()
                and backend_type = 'client backend'", // Autovacuum comes and goes.
            &[],
        )
        .await
        .expect("connections");
    let names: Vec<String> = roles.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["speedcoding"], "who migrated has left");
    program.stop().await.well();

    // The database alone makes an account: another replica knows alice.
    let program = scratch.program(SERVES).on(&url_of(&database)).serve().await;
    log_in(&program, "alice").await;
    program.stop().await.well();
}

#[tokio::test]
async fn the_service_roles_url_is_served_once_an_owner_has_migrated() {
    let scratch = Scratch::new();
    let program = scratch.program(SERVES).serve().await;
    let owner = scratch.program(&["db", "url"]).finish().await.well().stdout;
    let service = scratch
        .program(&["db", "login"])
        .finish()
        .await
        .well()
        .stdout;
    connect(&SecretString::from(owner.trim_end()))
        .await
        .batch_execute("create database fresh")
        .await
        .expect("a database");
    let fresh = |url: &str| changed(url.trim_end(), |url| url.set_path("fresh"));
    let (owner, service) = (fresh(&owner), fresh(&service));

    // It cannot migrate, and says who can.
    scratch
        .program(SERVES)
        .on(&service)
        .finish()
        .await
        .told(&["speedcoding migrate", "owner"]);
    // With the owner's URL beside it, it can.
    let replica = scratch
        .program(SERVES)
        .on(&service)
        .env("MIGRATION_DATABASE_URL", &owner)
        .serve()
        .await;
    replica.visitor().register("alice").await;
    replica.stop().await.well();
    // And from then on without.
    let replica = scratch.program(SERVES).on(&service).serve().await;
    log_in(&replica, "alice").await.complete_run().await;
    replica.stop().await.well();
    program.stop().await.well();
}

#[tokio::test]
async fn four_replicas_started_at_once_migrate_once_and_all_serve() {
    let database = Database::empty().await;
    let scratch = Scratch::new();
    let started: Vec<_> = (0..4)
        .map(|_| scratch.program(SERVES).on(&url_of(&database)).start())
        .collect();
    let mut replicas = Vec::new();
    for replica in started {
        replicas.push(replica.announced().await);
    }

    // A token of one is good for all.
    let alice = replicas[0].visitor().register("alice").await;
    for replica in &replicas {
        let alice = returning(replica, &alice);
        alice.get("/auth/me").await.ok(200);
        log_in(replica, "alice").await;
    }
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/migrations"));
    let recorded: i64 = database
        .owner()
        .await
        .query_one("select count(*) from private.migration_history", &[])
        .await
        .expect("a history")
        .get(0);
    assert_eq!(recorded as usize, files.expect("migrations").count());
    for replica in replicas {
        replica.stop().await.well();
    }
}

#[tokio::test]
async fn the_most_talkative_log_tells_no_secret() {
    let scratch = Scratch::new();
    let program = scratch
        .program(SERVES)
        .env("RUST_LOG", "trace")
        .serve()
        .await;
    let alice = program.visitor().register("alice").await;
    alice.complete_run().await;
    log_in(&program, "alice").await;
    // Refusals are logged, too.
    let visitor = program.visitor();
    let twice = json!({ "username": "alice", "password": PASSWORD });
    visitor
        .post("/auth/register", twice)
        .await
        .problem(409, "username_taken");
    let wrong = json!({ "username": "alice", "password": PASSWORD.to_uppercase() });
    visitor
        .post("/auth/login", wrong)
        .await
        .problem(401, "wrong_credentials");
    let ended = program.stop().await.well();
    assert!(
        ended.stderr.contains("verify_milestone"),
        "it was talkative"
    );
    assert!(!ended.stderr.contains(&PASSWORD.to_uppercase()));
}
