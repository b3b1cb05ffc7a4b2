//! `sql/new-migration`: the next migration is written from the files of `sql/functions` that have changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use speedcoding::db::migrate::migrate;

use crate::support::{cluster::Database, program::Scratch};

/// Copies a folder, so that the tool reads the copy in the place of `sql`.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let copied = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).expect("a copy");
        }
    }
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    names.sort();
    names
}

fn run(sql: &Path) -> String {
    let ended = Command::new(sql.join("new-migration"))
        .arg("try_it")
        .output()
        .expect("the tool");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{said}{ended:?}");
    said
}

#[tokio::test]
async fn the_next_migration_holds_what_has_changed_and_stops_where_its_author_must_decide() {
    let scratch = Scratch::new();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sql = scratch.path("sql");
    copy(&repository.join("sql"), &sql);
    fs::create_dir(scratch.path("tests")).expect("a folder");
    for file in ["tests/cluster.sh", "tests/functions.sql"] {
        fs::copy(repository.join(file), scratch.path(file)).expect(file);
    }
    let file = |function: &str| sql.join(format!("functions/private.{function}.sql"));
    let edit = |function: &str, from: &str, to: &str| {
        let text = fs::read_to_string(file(function)).expect(function);
        assert!(text.contains(from), "{function}");
        fs::write(file(function), text.replace(from, to)).expect(function);
    };
    let new = |function: &str, body: &str| {
        let text = format!(
            "create function private.{function}() returns integer
             language sql set search_path = '' return {body};
             comment on function private.{function}() is 'New.';
             revoke all on function private.{function}() from public;\n"
        );
        fs::write(file(function), text).expect(function);
    };

    // The edits: a text, a new function that needs another new one, parameters, a type of result, and a function that
    // goes.
    edit(
        "display_duration",
        "comment on function",
        "-- Changed.\ncomment on function",
    );
    edit("uuid_v7", "begin\n", "begin\n  -- Changed.\n");
    new("a_sum", "private.b_part() + 1");
    new("b_part", "1");
    edit("answer_digest", "answer text", "answer text, pepper text");
    edit("answer_digest", "bytea, text", "bytea, text, text");
    edit("attempt_cooldown", "returns interval", "returns text");
    fs::remove_file(file("moment")).expect("a file");

    let before = names(&sql.join("migrations"));
    let said = run(&sql);
    assert!(
        said.contains("5 functions, 3 decisions left to its author"),
        "{said}"
    );
    let written: Vec<_> = names(&sql.join("migrations"))
        .into_iter()
        .filter(|path| !before.contains(path))
        .collect();
    let [written] = written.as_slice() else {
        panic!("{written:?}");
    };
    assert!(
        written > before.last().expect("migrations"),
        "the new migration is the last: {written:?}"
    );
    let text = fs::read_to_string(written).expect("a migration");
    let made: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("create "))
        .map(|line| line.split('(').next().expect("a name"))
        .collect();
    assert_eq!(
        made,
        [
            "or replace function private.answer_digest",
            "or replace function private.attempt_cooldown",
            "function private.b_part",
            "or replace function private.uuid_v7",
            "function private.a_sum",
        ],
        "{text}"
    );

    // As written, the migration stops. With the drops added, it makes what the files say.
    let database = Database::empty().await;
    migrate(database.url()).await.expect("migrations");
    let owner = database.owner().await;
    let mut text = text;
    for decision in [
        "private.moment(at timestamp with time zone) has no file in sql/functions",
        "something stays that its file does not make",
        "does not replace what is there (cannot change return type of existing function)",
    ] {
        let error = owner
            .batch_execute(&format!("begin; {text} commit;"))
            .await
            .expect_err(decision);
        let error = error.as_db_error().expect(decision).message().to_owned();
        assert!(error.contains(decision), "{error}");
        owner.batch_execute("rollback").await.expect("an undoing");
        let (above, stop) = text.split_once("-- Replace this statement").expect(&error);
        let (remedy, below) = stop.split_once('\n').expect("a line");
        let (_, remedy) = remedy.split_once("perhaps: ").expect("a remedy");
        let (_, below) = below.split_once('\n').expect("a line");
        text = format!("{above}{remedy}\n{below}");
    }
    owner.batch_execute(&text).await.expect("the migration");
    fs::write(written, text).expect("a migration");
    let said = run(&sql);
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(names(&sql.join("migrations")).len(), before.len() + 1);
}
