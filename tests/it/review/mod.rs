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
            "select concat_ws(' ', substr(a.action, 12), coalesce(u.username, '-'), a.database_role, r.username)
               from private.audit_log as a
               left join public.users as u on u.id = a.actor_id
               left join public.users as r on r.id::text = a.details ->> 'reviewedBy'
              where a.subject_id = $1::text::uuid and a.action like 'submission.%'
              order by a.id",
            &[&id],
        )
        .await
        .expect("the audit log");
    rows.iter().map(|row| row.get(0)).collect()
}
