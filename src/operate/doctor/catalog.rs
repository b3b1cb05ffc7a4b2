//! Compares rights, policies, triggers, functions and tables with those that the migrations leave.

use std::collections::BTreeMap;

use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};

use super::report::{Finding, Report, Status};

/// The catalog as the migrations leave it: lines of `subject: detail`, in the order of the bytes.
const MIGRATED: &str = include_str!("../../../sql/doctor/catalog.txt");
/// The roles whose rights are fixed. Other roles belong to the operator of the database.
pub const ROLES: [&str; 7] = [
    "public",
    "anon",
    "authenticated",
    "service_role",
    "speedcoding_api",
    "speedcoding_writer",
    "speedcoding_keeper",
];
/// The maximum number of differences that are listed. A database with more has another problem.
const MOST_LISTED: usize = 8;

/// Checks that rights, policies, triggers, functions and tables are as the migrations left them.
pub async fn look_at_catalog(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let migrated: BTreeMap<&str, &str> = MIGRATED
        .lines()
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .collect();
    let named = |kinds: &[&str]| -> Vec<&str> {
        let subjects = migrated
            .keys()
            .filter_map(|subject| subject.split_once(' '));
        let subjects = subjects.filter(|(kind, _)| kinds.contains(kind));
        subjects.map(|(_, name)| name).collect()
    };
    let relations = named(&["table", "view", "sequence", "type"]);
    let functions = named(&["function"]);
    let schemas: &[&str] = &["public", "private", "speedcoding"];
    let params: [(&(dyn ToSql + Sync), Type); 4] = [
        (&relations, Type::TEXT_ARRAY),
        (&functions, Type::TEXT_ARRAY),
        (&schemas, Type::TEXT_ARRAY),
        (&ROLES.as_slice(), Type::TEXT_ARRAY),
    ];
    client
        .batch_execute(include_str!("../../../sql/doctor/settings.sql"))
        .await?;
    let rows = client
        .query_typed(include_str!("../../../sql/doctor/catalog.sql"), &params)
        .await?;
    client.batch_execute("commit").await?;
    let found: BTreeMap<&str, &str> = rows
        .iter()
        .map(|row| {
            (
                row.get(0),
                row.get::<_, Option<&str>>(1).unwrap_or_default(),
            )
        })
        .collect();

    let missing: Vec<&str> = (relations.iter().chain(&functions).copied())
        .filter(|name| !found.keys().any(|subject| names(subject, name)))
        .collect();
    // A missing object is reported once, without its properties. The operator may add tables, columns, indexes and
    // triggers, and let other roles into the schema public.
    let changed = migrated.iter().filter(|(subject, detail)| {
        let is_there = !missing.iter().any(|name| names(subject, name)) || is_object(subject);
        found.get(*subject) != Some(*detail) && is_there
    });
    let added = found.keys().filter(|subject| {
        !migrated.contains_key(*subject)
            && ["grant ", "policy ", "rule "]
                .iter()
                .any(|kind| subject.starts_with(kind))
            && !subject.contains(" on schema public ")
    });
    let mut remedies: Vec<(&str, String)> = changed
        .map(|(subject, detail)| {
            (
                *subject,
                restore(subject, detail, found.contains_key(subject)),
            )
        })
        .chain(added.map(|subject| (*subject, remove(subject))))
        .collect();
    for check in [
        "privileges",
        "row access",
        "triggers",
        "functions",
        "tables",
    ] {
        let count = migrated
            .keys()
            .filter(|subject| of(subject) == check)
            .count();
        let own = remedies.extract_if(.., |(subject, _)| of(subject) == check);
        judge(
            check,
            count,
            own.map(|(_, remedy)| remedy).collect(),
            report,
        );
    }
    Ok(())
}

/// Which check a subject of the catalog belongs to.
fn of(subject: &str) -> &'static str {
    match subject.split(' ').next() {
        Some("grant") => "privileges",
        Some("trigger" | "rule") => "triggers",
        Some("alter") if subject.ends_with("trigger all") => "triggers",
        Some("policy" | "alter") => "row access",
        Some("function") => "functions",
        _ => "tables",
    }
}

/// Whether a subject is about the object of this name, or about a part of it.
fn names(subject: &str, name: &str) -> bool {
    let is_named = |word: &str| {
        word.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    subject.split(' ').any(is_named)
}

/// Whether a subject is a whole object, and not a property of one.
fn is_object(subject: &str) -> bool {
    let kind = subject.split(' ').next().unwrap_or_default();
    ["table", "view", "sequence", "type", "function"].contains(&kind)
}

fn judge(check: &'static str, count: usize, mut remedies: Vec<String>, report: &mut Report) {
    let differences = remedies.len();
    if differences == 0 {
        report.add(
            check,
            Status::Ok,
            format!("all {count} are as the migrations left them"),
        );
        return;
    }
    remedies.truncate(MOST_LISTED);
    if differences > MOST_LISTED {
        remedies.push(format!("and {} more", differences - MOST_LISTED));
    }
    report.push(Finding {
        check,
        status: Status::Failure,
        found: format!("{differences} differ from the migrations; run as the owner:"),
        remedies,
    });
}

/// How to restore an object that is missing or differs.
fn restore(subject: &str, detail: &str, is_there: bool) -> String {
    match (subject.split_once(' '), is_there) {
        (Some(("grant" | "alter", _)), _) => format!("{subject};"),
        (Some(("function", name)), _) => format!("run sql/functions/{name}.sql"),
        (Some(("trigger", rest)), false) => {
            let (name, table) = rest.split_once(" on ").unwrap_or((rest, ""));
            format!(
                "alter table {table} enable trigger {name}; or, if it is gone, create it as in sql/migrations"
            )
        }
        (Some(("policy" | "trigger", _)), true) => {
            format!("drop {subject}; and create it as in sql/migrations")
        }
        (Some(("policy", _)), false) => format!("create {subject} as in sql/migrations"),
        (_, true) => format!("make {subject} as in sql/migrations: {detail}"),
        (Some(("table" | "view" | "sequence", _)), false) => {
            format!("restore {subject} from a backup, or create it as in sql/migrations")
        }
        (_, false) => format!("restore {subject} as in sql/migrations: {detail}"),
    }
}

/// How to remove an object that should not be there.
fn remove(subject: &str) -> String {
    let grant = subject.strip_prefix("grant ");
    match grant.and_then(|grant| grant.rsplit_once(" to ")) {
        Some((what, role)) => format!("revoke {what} from {role};"),
        None => format!("drop {subject};"),
    }
}
