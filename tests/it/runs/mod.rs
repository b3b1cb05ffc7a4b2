//! A run from its start to its submission, and what each step refuses.

mod ends;
mod milestones;
mod readers;
mod stacks;
mod starts;

use crate::support::app::TestApp;

/// The row of a session: its status, whether its end time is the deadline, and whether it has an end time.
async fn stored(app: &TestApp, session: &str) -> (String, bool, bool) {
    let row = app
        .sql()
        .await
        .query_one(
            "select status::text, end_time is not distinct from deadline, end_time is not null
               from public.sessions where id::text = $1",
            &[&session],
        )
        .await
        .expect("a session");
    (row.get(0), row.get(1), row.get(2))
}

async fn count(app: &TestApp, table: &str) -> i64 {
    app.sql()
        .await
        .query_one(&format!("select count(*) from {table}"), &[])
        .await
        .expect("a count")
        .get(0)
}
