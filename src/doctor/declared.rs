//! What `sql/` declares, as facts in the words that declare them: who may do what, which policies and triggers there are,
//! whose each function is and what it does. The catalog of a database is held against it.

use std::collections::{BTreeMap, BTreeSet};

use include_dir::{Dir, include_dir};

use crate::db::migrate::MIGRATIONS;

static FUNCTIONS: Dir = include_dir!("$CARGO_MANIFEST_DIR/sql/functions");

/// The roles whose rights are fixed; others belong to whoever runs the database.
pub const ROLES: [&str; 7] = [
    "public",
    "anon",
    "authenticated",
    "service_role",
    "speedcoding_api",
    "speedcoding_writer",
    "speedcoding_keeper",
];

/// Everything declared.
#[derive(Default)]
pub struct Declared {
    /// Tables, views and sequences, as `schema.name`.
    pub relations: BTreeSet<String>,
    /// The bodies of the functions, by `schema.name`.
    pub functions: BTreeMap<String, String>,
    /// `grant select on public.users to anon`, `policy …`, `trigger …`, `alter function … owner to …`
    pub facts: BTreeSet<String>,
}

impl Declared {
    /// Reads the migrations in their order, and the functions as they are now.
    pub fn read() -> Self {
        let mut declared = Declared::default();
        let mut migrations: Vec<_> = MIGRATIONS.files().collect();
        migrations.sort_by_key(|file| file.path());
        for file in migrations {
            for statement in statements(file.contents_utf8().unwrap_or_default()) {
                declared.apply(&statement);
            }
        }
        // Of functions their own files tell, which a test holds against the migrations.
        declared
            .facts
            .retain(|fact| !fact.contains(" on function ") && !fact.starts_with("alter function "));
        for file in FUNCTIONS.files() {
            let text = file.contents_utf8().unwrap_or_default();
            let name = file.path().file_stem().unwrap_or_default();
            let body = text.split("$$").nth(1).unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            declared.functions.insert(name, body.to_owned());
            for statement in statements(text) {
                declared.apply(&statement);
            }
        }
        // What an owner may do goes without saying.
        for (name, owner) in declared.owners() {
            declared
                .facts
                .remove(&format!("grant execute on function {name} to {owner}"));
        }
        declared
    }

    /// Follows one statement; what it makes no fact of is passed over.
    fn apply(&mut self, statement: &str) {
        let words: Vec<&str> = statement.split(' ').collect();
        match words.as_slice() {
            ["create", "table" | "sequence", name, ..] => {
                self.relations.insert((*name).to_owned());
            }
            ["create", "view", name, rest @ ..]
            | ["create", "or", "replace", "view", name, rest @ ..] => {
                self.relations.insert((*name).to_owned());
                if rest.starts_with(&["with", "(security_invoker", "=", "true)"]) {
                    self.facts
                        .insert(format!("alter view {name} set (security_invoker = true)"));
                }
            }
            ["drop", "table" | "view" | "sequence", name, ..] => {
                self.relations.remove(*name);
                self.forget(|fact| fact.contains(&format!(" on {name}")));
            }
            ["create", "policy", name, "on", table, ..] => {
                self.facts.insert(format!("policy {name} on {table}"));
            }
            ["drop", "policy", name, "on", table, ..] => {
                self.forget(|fact| fact == format!("policy {name} on {table}"));
            }
            ["create", "trigger", name, rest @ ..] => {
                let mut rest = rest.iter().skip_while(|word| **word != "on");
                if let Some(table) = rest.nth(1) {
                    self.facts.insert(format!("trigger {name} on {table}"));
                }
            }
            ["drop", "trigger", name, "on", table, ..] => {
                self.forget(|fact| fact == format!("trigger {name} on {table}"));
            }
            ["alter", "table", name, "enable", "row", "level", "security"] => {
                self.facts
                    .insert(format!("alter table {name} enable row level security"));
            }
            ["alter", "function", .., "owner", "to", owner] => {
                let function = words[2].split('(').next().unwrap_or_default();
                self.facts
                    .insert(format!("alter function {function} owner to {owner}"));
            }
            ["grant", ..] => self.facts.extend(grants(statement, "grant ", " to ")),
            ["revoke", "all", ..] => {
                for revoked in grants(statement, "revoke ", " from ") {
                    let Some((_, object)) = revoked.split_once(" on ") else {
                        continue;
                    };
                    let object = format!(" on {object}");
                    self.forget(|fact| fact.ends_with(&object));
                }
            }
            ["revoke", ..] => {
                for revoked in grants(statement, "revoke ", " from ") {
                    self.facts.remove(&revoked);
                }
            }
            _ => {}
        }
    }

    fn owners(&self) -> Vec<(String, String)> {
        let owners = self.facts.iter().filter_map(|fact| {
            let (name, owner) = fact
                .strip_prefix("alter function ")?
                .split_once(" owner to ")?;
            Some((name.to_owned(), owner.to_owned()))
        });
        owners.collect()
    }

    fn forget(&mut self, is_meant: impl Fn(&str) -> bool) {
        self.facts.retain(|fact| !is_meant(fact));
    }
}

/// `grant select, insert (a, b) on x, y to r, s` as one fact for each privilege, column, object and role.
fn grants(statement: &str, verb: &str, to: &str) -> Vec<String> {
    let parts = statement
        .strip_prefix(verb)
        .and_then(|rest| rest.split_once(" on "))
        .and_then(|(what, rest)| Some((what, rest.rsplit_once(to)?)));
    let Some((what, (objects, roles))) = parts else {
        return Vec::new();
    };
    let (kind, objects) = match objects.split_once(' ') {
        Some(("table" | "sequence", names)) => ("", names),
        Some((kind @ ("schema" | "function"), names)) => (kind, names),
        _ => ("", objects),
    };
    let mut facts = Vec::new();
    for privilege in list(what) {
        let (privilege, columns) = match privilege.split_once(" (") {
            Some((privilege, columns)) => (privilege, list(columns.trim_end_matches(')'))),
            None => (privilege, vec![""]),
        };
        for column in columns {
            for object in list(objects) {
                for role in list(roles) {
                    let column = if column.is_empty() {
                        String::new()
                    } else {
                        format!(" ({column})")
                    };
                    let object = match kind {
                        "" => object.to_owned(),
                        "schema" => format!("schema {object}"),
                        _ => format!("function {}", object.split('(').next().unwrap_or_default()),
                    };
                    facts.push(format!("grant {privilege}{column} on {object} to {role}"));
                }
            }
        }
    }
    facts
}

/// What stands between commas, but for those in brackets.
fn list(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .collect()
}

/// The statements of a script, each on one line, without comments; what is quoted is left out.
fn statements(script: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    let mut rest = script;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '\'' => quoted(rest, "'"),
            '$' => {
                let tag = rest[1..].find('$').map_or("$", |end| &rest[..end + 2]);
                quoted(rest, tag)
            }
            ';' => {
                let words: Vec<&str> = statement.split_whitespace().collect();
                statements.push(words.join(" "));
                statement.clear();
                1
            }
            c => {
                statement.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    statements
}

/// How long a quotation is, quotes included.
fn quoted(text: &str, quote: &str) -> usize {
    text[quote.len()..]
        .find(quote)
        .map_or(text.len(), |end| end + 2 * quote.len())
}
