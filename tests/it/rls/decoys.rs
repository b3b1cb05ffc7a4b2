//! Objects that a role can put in the place of ours. Our functions ignore them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{actor::text, cluster::first_column};

use super::{SUBJECTS, World, cell, fails, open, refuses_writes, role, texts};

/// Functions and operators that lie, in the place of PostgreSQL's own.
const DECOYS: &str = r#"
    create schema decoy;
    create function decoy.lie(uuid, uuid) returns boolean language sql as 'select true';
    create function decoy.lie(text, text) returns boolean language sql as 'select true';
    create function decoy.lie(timestamptz, timestamptz) returns boolean language sql as 'select true';
    create function decoy.lie(jsonb, text) returns text language sql as $$ select 'service_role'::text $$;
    create function decoy.lie(public.submission_status, public.submission_status) returns boolean language sql as 'select false';
    create operator decoy.= (function = decoy.lie, leftarg = uuid, rightarg = uuid);
    create operator decoy.= (function = decoy.lie, leftarg = text, rightarg = text);
    create operator decoy.< (function = decoy.lie, leftarg = timestamptz, rightarg = timestamptz);
    create operator decoy.> (function = decoy.lie, leftarg = timestamptz, rightarg = timestamptz);
    create operator decoy.->> (function = decoy.lie, leftarg = jsonb, rightarg = text);
    create operator decoy.<> (function = decoy.lie, leftarg = public.submission_status, rightarg = public.submission_status);
    create function decoy.now() returns timestamptz language sql as $$ select timestamptz '2001-01-01' $$;
    create function decoy.clock_timestamp() returns timestamptz language sql as 'select decoy.now()';
    create function decoy.length(text) returns integer language sql as 'select 5';
    create function decoy.cardinality(anyarray) returns integer language sql as 'select 5';
    create function decoy.current_setting(text, boolean) returns text
    language sql as $$ select format('{"role": "service_role", "sub": "%s"}', id) from public.users where username = 'moderator' $$;
    create function decoy.caller_id() returns uuid language sql as $$ select id from public.users where username = 'moderator' $$;
    create function decoy.uid() returns uuid language sql as 'select decoy.caller_id()';
    create function decoy.caller_role() returns text language sql as $$ select 'admin'::text $$;
    create function decoy.refuse(integer, text, text, jsonb default null) returns void language sql as '';
    grant usage on schema decoy to public;"#;

/// Temporary tables with the names of our tables. In them every user is an admin.
const TEMPORARY: &str = "
    do $$
    declare
      ours record;
    begin
      for ours in
        select c.relname, n.nspname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
         where n.nspname in ('public', 'private') and c.relkind in ('r', 'v')
      loop
        execute format('create temp table %I (like %I.%I)', ours.relname, ours.nspname, ours.relname);
        execute format('grant all on pg_temp.%I to public', ours.relname);
      end loop;
      create temp table new_rows (id uuid);
      create temp table old_rows (id uuid);
    end
    $$;
    insert into pg_temp.users (id, username, role, created_at) select id, username, 'admin', created_at from public.users;
    create domain pg_temp.timestamptz as date;
    create domain pg_temp.submission_status as text;
    create function pg_temp.caller_role() returns text language sql as $$ select 'admin'::text $$;";

impl World {
    /// A connection as `client` makes it, with every object that a role could put in the place of ours.
    async fn deceiver(&self, role: &str, claims: &Value) -> Client {
        let client = self.app.sql().await;
        client.batch_execute(TEMPORARY).await.expect("decoys");
        let enter = format!(
            "set role {role};
             select set_config('request.jwt.claims', '{claims}', false);
             set search_path = decoy, pg_temp, public, private, pg_catalog"
        );
        client.batch_execute(&enter).await.expect("the role");
        client
    }
}

#[tokio::test]
async fn nothing_of_ours_is_fooled_by_what_a_role_puts_in_its_way() {
    let world = World::make().await;
    let owner = world.app.sql().await;
    owner.batch_execute(DECOYS).await.expect("decoys");
    let open = open(&owner).await;
    for subject in SUBJECTS {
        let client = world.deceiver(role(subject), &world.claims(subject)).await;
        for relation in &open {
            let (sees, writes) = cell(relation.sees, subject);
            if sees != "-" {
                let query = format!("select {} from {}", relation.key(), relation.name);
                let expected = world.keys(relation, &sees, subject).await;
                assert_eq!(
                    texts(&client, &query).await,
                    expected,
                    "{subject}: {}",
                    relation.name
                );
            }
            refuses_writes(&client, subject, relation.name, &relation.columns, writes).await;
        }
    }
    let client = world.deceiver("authenticator", &json!({})).await;
    for query in [
        "select from public.users",
        "select from private.credentials",
    ] {
        assert_eq!(fails(&client, query).await.as_deref(), Some("42501"));
    }
    // The function that PostgREST calls before each request.
    let banned = json!({
        "role": "authenticated", "sub": world.actors["banned"].id,
        "session_id": world.app.claims(&world.actors["banned"]).await["session_id"],
    });
    let client = world.deceiver("authenticated", &banned).await;
    let asked = fails(&client, "select speedcoding.check_request()").await;
    assert_eq!(asked.as_deref(), Some("PT403"));

    // Triggers, fired by service_role. The rules hold, and derived rows follow.
    let service = world
        .deceiver("service_role", &json!({ "role": "service_role" }))
        .await;
    let pending = format!(
        "(select id from public.submissions
           where status operator(pg_catalog.=) 'PENDING' and user_id::text operator(pg_catalog.=) '{}')",
        world.actors["owner"].id
    );
    let set = |what: &str| {
        format!("update public.submissions set {what} where id operator(pg_catalog.=) {pending}")
    };
    for (what, state) in [
        ("status = 'APPROVED', video_url = null", "PT409"),
        ("status = 'REJECTED'", "PT409"),
        ("total_ms = 1", "PT409"),
        ("claimed_by = user_id", "PT403"),
        ("packages = array_fill('x'::text, array[201])", "23514"),
    ] {
        let refused = fails(&service, &set(what)).await;
        assert_eq!(refused.as_deref(), Some(state), "{what}");
    }
    let entries = "select count(*)::text from public.board_entries";
    let before = texts(&owner, entries).await;
    service
        .batch_execute(&set("status = 'APPROVED'"))
        .await
        .expect("an approval");
    let times = "select (reviewed_at > '2026-01-01')::text from public.submissions where reviewed_at is not null";
    assert_eq!(
        texts(&owner, times).await,
        BTreeSet::from(["true".to_owned()])
    );
    assert_eq!(
        texts(&owner, entries).await,
        before,
        "a best of hers counts already"
    );
    let differences = "select count(*)::text from private.check_boards()";
    assert_eq!(
        texts(&owner, differences).await,
        BTreeSet::from(["0".to_owned()])
    );

    // The functions, as the service calls them.
    let caller = world.app.claims(&world.actors["verifier"]).await;
    let api = world.deceiver("speedcoding_api", &json!({})).await;
    let call = async |function: &str| {
        let query = format!("select to_jsonb(r)::text from private.{function} as r");
        first_column(&api, &query.replace("$1", &format!("'{caller}'"))).await
    };
    let started: Value =
        serde_json::from_str(&call("start_session($1, 'Rust')").await[0]).expect("JSON");
    assert_eq!(started["user_id"], caller["sub"]);
    assert!(text(&started, "/start_time").as_str() > "2026");
    let id = text(&started, "/id");
    let passed = call(&format!("verify_milestone($1, '{id}', 1)")).await;
    let passed: Value = serde_json::from_str(&passed[0]).expect("JSON");
    assert_eq!(passed["passed"], true);
    // The rows of others stay hidden.
    let stranger = world.app.claims(&world.actors["owner"]).await;
    let statement = format!("select private.verify_milestone('{stranger}', '{id}', 2)");
    assert_eq!(fails(&api, &statement).await.as_deref(), Some("PT404"));
    let review = format!("select private.claim_submission('{stranger}', '{id}')");
    assert_eq!(fails(&api, &review).await.as_deref(), Some("PT403"));
}
