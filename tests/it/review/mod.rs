//! What runners hand in and what moderators make of it, through the API and in the dashboard.

mod dashboard;
mod races;
mod steps;

use crate::support::app::TestApp;

const VIDEO: &str = "https://youtu.be/abc";

/// What the audit log says of a submission: what happened, who did it as which role, what else is known.
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
