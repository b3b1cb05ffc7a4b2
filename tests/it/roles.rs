//! The rights of the service's own roles in the database. Those of clients are in `rls`.

use serde_json::Value;
use speedcoding::db::query;
use tokio_postgres::Client;

use crate::support::{
    actor::Actor,
    app::TestApp,
    cluster::{Database, sqlstate},
};

const REFUSED: &str = "42501";

/// Tables, views and the like that are ours, as `schema.name`.
pub async fn relations(owner: &Client) -> Vec<String> {
    let rows = owner
        .query(
            "select format('%I.%I', n.nspname, c.relname)
               from pg_class as c
               join pg_namespace as n on n.oid = c.relnamespace
              where n.nspname in ('public', 'private', 'speedcoding') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
              order by 1",
            &[],
        )
        .await
        .expect("relations");
    rows.iter().map(|row| row.get(0)).collect()
}

/// The rights of a role on our relations, such as `public.users INSERT(username)`.
pub async fn may(owner: &Client, role: &str) -> Vec<String> {
    let rows = owner
        .query(
            "with relations as (
               select c.oid, format('%I.%I', n.nspname, c.relname) as name
                 from pg_class as c
                 join pg_namespace as n on n.oid = c.relnamespace
                where n.nspname in ('public', 'private') and c.relkind in ('r', 'p', 'v', 'm', 'f')
             )
             select name || ' ' || privilege as what
               from relations,
                    unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) as privilege
              where has_table_privilege($1, oid, privilege)
              union all
             select format('%s %s(%I)', name, privilege, a.attname)
               from relations
               join pg_attribute as a on a.attrelid = relations.oid and a.attnum > 0 and not a.attisdropped,
                    unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) as privilege
              where has_column_privilege($1, relations.oid, a.attnum, privilege)
                and not has_table_privilege($1, relations.oid, privilege)
              union all
             select format('%I.%I %s', n.nspname, c.relname, privilege)
               from pg_class as c
               join pg_namespace as n on n.oid = c.relnamespace,
                    unnest('{SELECT,UPDATE,USAGE}'::text[]) as privilege
              where n.nspname in ('public', 'private') and c.relkind = 'S'
                and has_sequence_privilege($1, c.oid, privilege)
              order by 1",
            &[&role],
        )
        .await
        .expect("privileges");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Our functions that a role may execute, according to their grants.
pub async fn may_execute(owner: &Client, role: &str) -> Vec<String> {
    let rows = owner
        .query(
            "select format('%I.%I', n.nspname, p.proname)
               from pg_proc as p
               join pg_namespace as n on n.oid = p.pronamespace
              where n.nspname in ('public', 'private', 'speedcoding') and has_function_privilege($1, p.oid, 'EXECUTE')
              order by 1",
            &[&role],
        )
        .await
        .expect("privileges");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

#[tokio::test]
async fn the_service_uses_the_identity_tables_and_nothing_else() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    assert_eq!(
        may(&owner, "speedcoding_api").await,
        [
            "private.audit_log INSERT(action)",
            "private.audit_log INSERT(actor_id)",
            "private.audit_log INSERT(details)",
            "private.audit_log INSERT(subject_id)",
            "private.audit_log INSERT(user_id)",
            "private.audit_log SELECT(action)",
            "private.audit_log SELECT(happened_at)",
            "private.audit_log SELECT(user_id)",
            "private.credentials DELETE",
            "private.credentials INSERT",
            "private.credentials SELECT",
            "private.credentials UPDATE",
            "private.refresh_tokens DELETE",
            "private.refresh_tokens INSERT",
            "private.refresh_tokens SELECT",
            "private.refresh_tokens UPDATE",
            "public.bans SELECT",
            "public.users INSERT(username)",
            "public.users SELECT",
        ]
    );
    let service = database.role("speedcoding_api", None).await;
    let mut refused = 0;
    for name in relations(&owner).await {
        let state = sqlstate(&service, &format!("select * from {name} limit 0")).await;
        if [
            "private.credentials",
            "private.refresh_tokens",
            "public.bans",
            "public.users",
        ]
        .contains(&name.as_str())
        {
            assert_eq!(state, None, "{name}");
        } else {
            assert_eq!(state.as_deref(), Some(REFUSED), "{name}");
            refused += 1;
        }
    }
    assert!(refused >= 6);
    for statement in [
        "insert into public.users (username, role) values ('mallory', 'admin')",
        "update public.users set role = 'admin'",
        "delete from public.users",
        "create table public.mine ()",
        "create table private.mine ()",
        "create schema mine",
    ] {
        assert_eq!(
            sqlstate(&service, statement).await.as_deref(),
            Some(REFUSED),
            "{statement}"
        );
    }
}

#[tokio::test]
async fn the_service_executes_what_its_statements_call_and_no_more() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    // The defaults of rows that the service writes call these functions. Functions that run as the service itself call
    // them, too.
    let called_by_others = [
        "private.caller_id",
        "private.clock",
        "private.end_sign_ins",
        "private.uuid_v7",
    ];
    let mut called = called_by_others.map(str::to_owned).to_vec();
    for query in query::ALL {
        for (at, _) in query.sql.match_indices("private.") {
            let rest = &query.sql[at..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'));
            let end = end.unwrap_or(rest.len());
            if rest[end..].starts_with('(') {
                called.push(rest[..end].to_owned());
            }
        }
    }
    called.sort_unstable();
    called.dedup();
    assert!(called.len() >= 6, "{called:?}");
    assert_eq!(may_execute(&owner, "speedcoding_api").await, called);
}

#[tokio::test]
async fn no_role_of_ours_can_bypass_the_policies_or_become_another() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let rows = owner
        .query(
            "select rolname || case when rolcanlogin then ' may log in' else '' end
               from pg_roles
              where (rolname like 'speedcoding%' or rolname in ('anon', 'authenticated', 'authenticator'))
                and not rolsuper and not rolbypassrls and not rolcreaterole and not rolcreatedb and not rolreplication
              order by 1",
            &[],
        )
        .await
        .expect("roles");
    let roles: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        roles,
        [
            "anon",
            "authenticated",
            "authenticator may log in",
            "speedcoding_api may log in",
            "speedcoding_keeper",
            "speedcoding_writer",
        ]
    );
    assert_eq!(
        number(
            &owner,
            "select count(*) from pg_auth_members
              where member in (select oid from pg_roles where rolname like 'speedcoding%')
                 or member in ('anon'::regrole, 'authenticated'::regrole)",
        )
        .await,
        0,
        "memberships"
    );
    // None of them may make objects, because those could shadow names.
    assert_eq!(
        number(
            &owner,
            "select count(*) from pg_roles as r, pg_namespace as n
              where (r.rolname like 'speedcoding%' or r.rolname in ('anon', 'authenticated', 'service_role'))
                and n.nspname !~ '^pg_'
                and has_schema_privilege(r.oid, n.oid, 'CREATE')",
        )
        .await,
        0,
        "CREATE on a schema"
    );
}

/// Faulty domain functions: they trust the id that they get.
const FAULTY: &str = "
    create function private.show_faultily(caller jsonb, whose uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      perform private.enter(caller);
      return (select count(*) from public.sessions where user_id = whose);
    end
    $$;
    create function private.start_faultily(caller jsonb, whose uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      perform private.enter(caller);
      insert into public.sessions (user_id, challenge_id, tech_stack, start_time, deadline)
      select whose, id, 'Forgery', private.clock(), private.clock() + max_duration
        from public.challenges where slug = 'freestyle';
      return 1;
    end
    $$;
    create function private.pass_faultily(caller jsonb, whose uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      perform private.enter(caller);
      insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at, attempts)
      values ((nullif(current_setting('test.session', true), ''))::uuid, whose, 5, true, private.clock(), 1);
      return 1;
    end
    $$;
    create function private.end_faultily(caller jsonb, whose uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    declare
      changed bigint;
    begin
      perform private.enter(caller);
      update public.sessions set status = 'incomplete', end_time = private.clock()
       where user_id = whose and status = 'running';
      get diagnostics changed = row_count;
      return changed;
    end
    $$;
    create function private.approve_faultily(caller jsonb, whose uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    declare
      changed bigint;
    begin
      perform private.enter(caller);
      update public.submissions set status = 'APPROVED' where user_id = whose;
      get diagnostics changed = row_count;
      return changed;
    end
    $$;
    create function private.judge_faultily(caller jsonb, whose uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    declare
      changed bigint;
    begin
      perform private.enter(caller);
      update public.milestones set attempts = attempts + 1 where user_id = whose;
      get diagnostics changed = row_count;
      return changed;
    end
    $$;
    create function private.attest_faultily(caller jsonb, whose uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      insert into private.attestations (session_id, user_id, milestone_number, verdict, attested_by)
      values ((nullif(current_setting('test.session', true), ''))::uuid, whose, 5, 'pass', private.enter(caller));
      return 1;
    end
    $$;
    create function private.note_faultily(caller jsonb, whose uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      perform private.enter(caller);
      return (select count(*) from private.reviews where user_id = whose)
        + (select count(*) from private.attestations where user_id = whose);
    end
    $$;
    create function private.cheat_faultily(caller jsonb, whose uuid) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      perform private.enter(caller);
      return (select count(*) from private.answer_variants);
    end
    $$;
    do $$
    declare
      faulty regprocedure;
    begin
      for faulty in select oid from pg_proc where proname like '%_faultily' loop
        execute format('alter function %s owner to speedcoding_writer', faulty);
        execute format('revoke all on function %s from public', faulty);
        execute format('grant execute on function %s to speedcoding_api', faulty);
      end loop;
    end
    $$;";

#[tokio::test]
async fn a_faulty_domain_function_can_neither_show_nor_write_a_strangers_row() {
    let app = TestApp::start().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let session = alice.start("freestyle").await;
    let owner = app.sql().await;
    owner.batch_execute(FAULTY).await.expect("faulty functions");
    let service = app.database.role("speedcoding_api", None).await;
    service
        .batch_execute(&format!("set test.session = '{session}'"))
        .await
        .expect("a setting");

    let call = async |function: &str, caller: &Value| -> Result<i64, String> {
        let statement = format!("select private.{function}($1, $2::text::uuid)");
        let row = service
            .query_one(&statement, &[caller, &alice.id])
            .await
            .map_err(|error| {
                error
                    .as_db_error()
                    .expect("PostgreSQL's error")
                    .message()
                    .to_owned()
            })?;
        Ok(row.get(0))
    };
    let state = async || -> String {
        owner
            .query_one(
                "select (select json_agg(s order by id) from public.sessions as s)::text
                     || (select count(*) from public.milestones)",
                &[],
            )
            .await
            .expect("the rows")
            .get(0)
    };

    let stranger = app.claims(&bob).await;
    let before = state().await;
    assert_eq!(call("show_faultily", &stranger).await, Ok(0));
    assert_eq!(call("end_faultily", &stranger).await, Ok(0));
    for (function, table) in [
        ("start_faultily", "sessions"),
        ("pass_faultily", "milestones"),
    ] {
        assert_eq!(
            call(function, &stranger).await,
            Err(format!(
                "new row violates row-level security policy for table \"{table}\""
            ))
        );
    }
    assert_eq!(state().await, before);

    // The same functions work on the caller's own rows. So it is the policies that stop the caller elsewhere.
    let herself = app.claims(&alice).await;
    assert_eq!(call("show_faultily", &herself).await, Ok(1));
    assert_eq!(call("pass_faultily", &herself).await, Ok(1));
    assert_eq!(call("end_faultily", &herself).await, Ok(1));
    assert_eq!(call("start_faultily", &herself).await, Ok(1));
}

#[tokio::test]
async fn a_faulty_function_can_judge_only_for_who_may_judge() {
    let app = TestApp::start().await;
    let alice = app.runner("alice").await;
    alice.complete_run().await;
    let session = alice.start("freestyle").await;
    let owner = app.sql().await;
    owner.batch_execute(FAULTY).await.expect("faulty functions");
    let service = app.database.role("speedcoding_api", None).await;
    service
        .batch_execute(&format!("set test.session = '{session}'"))
        .await
        .expect("a setting");
    owner
        .batch_execute(
            "update public.submissions set status = 'REJECTED', review_reason = 'no';
             update public.submissions set status = 'PENDING';",
        )
        .await
        .expect("two notes");
    let call = async |actor: &Actor, function: &str| -> Result<i64, String> {
        let caller = app.claims(actor).await;
        let statement = format!("select private.{function}_faultily($1, $2::text::uuid)");
        let answered = service.query_one(&statement, &[&caller, &alice.id]).await;
        answered.map(|row| row.get(0)).map_err(|error| {
            let error = error.as_db_error().expect("PostgreSQL's error");
            error.message().to_owned()
        })
    };
    let fenced = |table: &str| {
        Err(format!(
            "new row violates row-level security policy for table \"{table}\""
        ))
    };
    let denied = Err("permission denied for table answer_variants".to_owned());
    let own = Err("Nobody judges their own run.".to_owned());
    let rudi = app.runner("rudi").await;
    let mona = app.user_with_role("mona", "moderator").await;
    let vera = app.user_with_role("vera", "verifier").await;
    for (who, function, expected) in [
        (&alice, "approve", own),
        (&alice, "attest", fenced("attestations")),
        (&alice, "note", Ok(2)),
        (&alice, "cheat", denied.clone()),
        (&rudi, "approve", Ok(0)),
        (&rudi, "judge", Ok(0)),
        (&rudi, "attest", fenced("attestations")),
        (&rudi, "note", Ok(0)),
        (&mona, "judge", Ok(0)),
        (&mona, "end", Ok(0)),
        (&mona, "attest", fenced("attestations")),
        (&mona, "note", Ok(2)),
        (&mona, "cheat", denied.clone()),
        (&vera, "approve", Ok(0)),
        (&vera, "end", fenced("sessions")),
        (&vera, "cheat", denied),
        // The users who may do this succeed.
        (&vera, "judge", Ok(7)),
        (&vera, "attest", Ok(1)),
        (&mona, "approve", Ok(1)),
    ] {
        assert_eq!(call(who, function).await, expected, "{function}");
    }
}
