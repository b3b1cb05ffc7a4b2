//! Files that are generated from others. They are committed, and compared with their sources here. `just refresh`
//! (`REFRESH=1`) generates them again.

use std::{env, fs};

use serde_json::Value;
use speedcoding::{
    api, app,
    openapi::codes::{By, CODES},
    operate::doctor::catalog::ROLES,
    telemetry::METRICS,
};

use crate::support::cluster::migrated;

/// Fails if the file differs from what its sources generate. With `REFRESH=1` it writes the file, and says so.
fn hold(path: &str, made: &str) {
    let kept = fs::read_to_string(path).unwrap_or_default();
    if kept == made {
        return;
    }
    assert!(
        env::var_os("REFRESH").is_some(),
        "{path} is not what its sources make: run `just refresh`, or REFRESH=1 cargo test --test it generated::"
    );
    fs::write(path, made).expect(path);
    println!("made anew: {path}");
}

/// The same for the part of a file that stands between two lines which begin with `prefix` and have these comments.
fn hold_part(path: &str, prefix: &str, name: &str, made: &str) {
    let (begin, end) = (
        format!("{prefix}<!-- {name} -->\n"),
        format!("{prefix}<!-- end of {name} -->"),
    );
    let kept = fs::read_to_string(path).expect(path);
    let (before, rest) = kept.split_once(&begin).expect(&begin);
    let (_, after) = rest.split_once(&end).expect(&end);
    hold(path, &format!("{before}{begin}{made}{end}{after}"));
}

fn document() -> Value {
    serde_yaml_ng::from_str(&app::openapi().expect("a document")).expect("YAML")
}

#[test]
fn the_committed_document_is_what_the_code_says() {
    hold("openapi/openapi.yaml", &app::openapi().expect("a document"));
}

#[test]
fn the_page_on_monitoring_lists_every_metric() {
    let lines = METRICS
        .iter()
        .map(|(kind, name, meaning)| format!("| `{name}` | {kind} | {meaning} |\n"));
    let head = "| metric | kind | what it tells |\n|---|---|---|\n".to_owned();
    let table = head + &lines.collect::<String>();
    hold_part("docs/monitoring.md", "", "metrics", &table);
}

#[test]
fn the_page_on_errors_lists_every_code_with_who_answers_with_it() {
    let refusals = api::refusals();
    let lines = CODES.iter().map(|code| {
        let kinds = code.answered_by.iter().map(|by| {
            match by {
                By::Every => "every operation",
                By::Input => "operations with parameters or a body",
                By::Body => "operations with a body",
                By::Token => "operations that take a token",
                By::RequiredToken => "operations that need a token",
            }
            .to_owned()
        });
        let own = refusals
            .iter()
            .filter(|(_, codes)| codes.contains(&code.name))
            .map(|(operation, _)| format!("`{operation}`"));
        let by: Vec<_> = kinds.chain(own).collect();
        format!(
            "| {} | `{}` | {} | {} |\n",
            code.status,
            code.name,
            code.meaning,
            by.join(", ")
        )
    });
    let head = "| status | code | means | answered by |\n|---|---|---|---|\n".to_owned();
    let table = lines.fold(head, |table, line| table + &line);
    hold_part("docs/errors.md", "", "codes", &table);
}

#[test]
fn the_router_lists_every_operation() {
    let document = document();
    let sources = fs::read_dir("src/api").expect("src/api").map(|entry| {
        let path = entry.expect("a file").path();
        let text = fs::read_to_string(&path).expect("a text");
        (path.display().to_string(), text)
    });
    let sources: Vec<_> = sources.collect();
    let mut table = "//! | method | path | operation | in |\n//! |---|---|---|---|\n".to_owned();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("an id");
            let handler = format!("async fn {id}(\n        &self");
            let short = format!("async fn {id}(&self");
            let mut found = sources
                .iter()
                .filter(|(_, text)| text.contains(&handler) || text.contains(&short));
            let (source, _) = found.next().expect(id);
            let method = method.to_uppercase();
            table += &format!("//! | {method} | {path} | {id} | {source} |\n");
        }
    }
    hold_part("src/http/router.rs", "//! ", "operations", &table);
}

/// The catalog that `speedcoding doctor` compares a database with.
#[tokio::test]
async fn the_doctor_knows_what_the_migrations_leave() {
    let (_database, owner) = migrated().await;
    let ours = "n.nspname in ('public', 'private', 'speedcoding')
                and not exists (select from pg_depend as d where d.objid = it.oid and d.deptype = 'e')";
    let relations = owner
        .query(
            &format!(
                "select n.nspname || '.' || it.relname from pg_class as it join pg_namespace as n on n.oid = relnamespace
                  where relkind in ('r', 'p', 'v', 'm', 'S') and it.relname <> 'migration_history' and {ours}
                  union all
                 select n.nspname || '.' || it.typname from pg_type as it join pg_namespace as n on n.oid = typnamespace
                  where typtype = 'e' and {ours}"
            ),
            &[],
        )
        .await
        .expect("relations");
    let functions = owner
        .query(
            &format!(
                "select n.nspname || '.' || it.proname from pg_proc as it join pg_namespace as n on n.oid = pronamespace
                  where {ours}"
            ),
            &[],
        )
        .await
        .expect("functions");
    let [relations, functions] = [relations, functions]
        .map(|rows| rows.iter().map(|row| row.get(0)).collect::<Vec<String>>());
    let schemas = ["public", "private", "speedcoding"];
    owner
        .batch_execute(include_str!("../../sql/doctor/settings.sql"))
        .await
        .expect("settings");
    let rows = owner
        .query(
            include_str!("../../sql/doctor/catalog.sql"),
            &[
                &relations,
                &functions,
                &schemas.as_slice(),
                &ROLES.as_slice(),
            ],
        )
        .await
        .expect("the catalog");
    let lines = rows.iter().map(|row| match row.get::<_, Option<&str>>(1) {
        Some(detail) => format!("{}: {detail}\n", row.get::<_, &str>(0)),
        None => format!("{}\n", row.get::<_, &str>(0)),
    });
    let found: String = lines.collect();
    hold("sql/doctor/catalog.txt", &found);
}
