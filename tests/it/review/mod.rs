//! How runners hand in and moderators decide, through the API and in the dashboard.

mod claims;
mod dashboard;
mod races;
mod steps;

use crate::support::{
    actor::{Actor, text},
    app::TestApp,
};

const MISSING: &str = "00000000-0000-7000-8000-000000000000";
const VIDEO: &str = "https://youtu.be/abc";

/// The ids of a page, and its cursor.
async fn page(actor: &Actor, query: &str) -> (Vec<String>, Option<String>) {
    let page = actor.get(&format!("/submissions?{query}")).await.ok(200);
    let items = page["items"].as_array().expect("items");
    (
        items.iter().map(|item| text(item, "/id")).collect(),
        page["nextCursor"].as_str().map(str::to_owned),
    )
}

/// The audit log's entries about a submission: the action, the user, the database role, the reviewer.
async fn audited(app: &TestApp, id: &str) -> Vec<String> {
    let rows = app
        .sql()
        .await
        .query(
            "select concat_ws(' ', substr(action, 12), coalesce(actor, '-'), database_role, reviewer)
               from private.audit_trail
              where subject_id = $1::text::uuid and action like 'submission.%'
              order by id",
            &[&id],
        )
        .await
        .expect("the audit log");
    rows.iter().map(|row| row.get(0)).collect()
}
