//! The matrix in SQL: the objects that exist, the rights on them, and the rows that each subject reads and writes.

use std::collections::BTreeSet;

use crate::{
    roles::{may, may_execute, relations},
    support::cluster::Database,
};

use super::{
    CLOSED, EXECUTABLE, OPEN, SCHEMAS, SUBJECTS, World, cell, fails, open, refuses_writes, role,
    texts,
};

#[tokio::test]
async fn the_matrix_lists_all_that_is_there_and_all_that_is_granted() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let schemas = texts(
        &owner,
        "select nspname || ':' || coalesce(string_agg(' ' || rolname, '' order by rolname), '')
           from pg_namespace
           left join pg_roles on rolname in ('anon', 'authenticated', 'service_role')
            and has_schema_privilege(rolname, pg_namespace.oid, 'USAGE')
          where nspname !~ '^pg_' and nspname <> 'information_schema'
          group by nspname",
    )
    .await;
    let listed = SCHEMAS.map(|(name, roles)| format!("{name}: {roles}").trim_end().to_owned());
    assert_eq!(
        schemas,
        listed.into(),
        "schemas: in the database (left), in SCHEMAS (right)"
    );

    let there: BTreeSet<_> = relations(&owner).await.into_iter().collect();
    let listed = OPEN
        .iter()
        .map(|line| line.0)
        .chain(CLOSED.split_whitespace());
    let listed: BTreeSet<_> = listed.map(str::to_owned).collect();
    assert_eq!(
        there, listed,
        "relations: in the database (left), in OPEN and CLOSED (right)"
    );

    for relation in open(&owner).await {
        let there = texts(
            &owner,
            &format!(
                "select quote_ident(attname) from pg_attribute
                  where attrelid = '{}'::regclass and attnum > 0 and not attisdropped",
                relation.name
            ),
        )
        .await;
        let listed = relation.columns.iter().map(|column| (*column).to_owned());
        assert_eq!(
            there,
            listed.collect(),
            "columns of {}: in the database (left), in OPEN (right)",
            relation.name
        );
    }

    for subject in ["anon", "stranger", "service"] {
        let mut expected = BTreeSet::new();
        for (name, _, sees, _) in OPEN {
            let (sees, writes) = cell(sees, subject);
            if sees != "-" {
                expected.insert(format!("{name} SELECT"));
            }
            if writes {
                expected
                    .extend(["DELETE", "INSERT", "UPDATE"].map(|verb| format!("{name} {verb}")));
            }
        }
        let granted = may(&owner, role(subject))
            .await
            .into_iter()
            .collect::<BTreeSet<_>>();
        assert_eq!(
            granted,
            expected,
            "{}: granted (left), in OPEN (right)",
            role(subject)
        );

        let executable = may_execute(&owner, role(subject)).await;
        let listed = EXECUTABLE
            .iter()
            .filter(|(roles, _)| roles.split(' ').any(|listed| listed == role(subject)));
        let listed = listed.flat_map(|(_, functions)| functions.split_whitespace());
        assert_eq!(
            executable.into_iter().collect::<BTreeSet<_>>(),
            listed.map(str::to_owned).collect(),
            "{} may execute (left), in EXECUTABLE (right)",
            role(subject)
        );
    }
}

#[tokio::test]
async fn each_subject_sees_and_writes_what_the_matrix_says() {
    let world = World::make().await;
    let owner = world.app.sql().await;
    let open = open(&owner).await;
    for relation in &open {
        let (all, public) = (
            world.keys(relation, "all", "owner").await,
            world.keys(relation, "pub", "owner").await,
        );
        // Without such rows the matrix would prove nothing.
        if relation.sees.contains("own") {
            let own = world.keys(relation, "own", "owner").await;
            assert!(
                all.len() > own.len() && own.len() > public.len(),
                "{}",
                relation.name
            );
        } else if relation.sees.contains("pub") {
            assert!(all.len() > public.len(), "{}", relation.name);
        }
    }

    for subject in SUBJECTS {
        let client = world.client(subject).await;
        for relation in &open {
            let (sees, writes) = cell(relation.sees, subject);
            let name = relation.name;
            if sees == "-" {
                for column in &relation.columns {
                    let query = format!("select {column} from {name}");
                    assert_eq!(
                        fails(&client, &query).await.as_deref(),
                        Some("42501"),
                        "{subject}: {query}"
                    );
                }
            } else {
                let query = format!("select {} from {name}", relation.key());
                let expected = world.keys(relation, &sees, subject).await;
                assert_eq!(texts(&client, &query).await, expected, "{subject}: {name}");
            }
            refuses_writes(&client, subject, name, &relation.columns, writes).await;
        }
        for name in CLOSED.split_whitespace() {
            let query = format!("select from {name}");
            assert_eq!(
                fails(&client, &query).await.as_deref(),
                Some("42501"),
                "{subject}: {query}"
            );
            refuses_writes(&client, subject, name, &[], false).await;
        }
        for statement in [
            "create table public.mine ()",
            "create table private.mine ()",
            "create schema mine",
            "create function public.mine() returns integer language sql as 'select 1'",
            "alter table public.users disable row level security",
            "create policy mine on public.sessions using (true)",
            "drop policy sessions_read on public.sessions",
            "create index on public.sessions (user_id)",
            "drop table public.milestones cascade",
        ] {
            assert_eq!(
                fails(&client, statement).await.as_deref(),
                Some("42501"),
                "{subject}: {statement}"
            );
        }
    }
}

#[tokio::test]
async fn a_visitors_count_touches_no_row_that_is_hidden() {
    let world = World::make().await;
    let owner = world.app.sql().await;
    let victim = &world.actors["verifier"].id;
    owner
        .batch_execute(&format!(
            "insert into public.sessions (user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
             select '{victim}', c.id, 'Rust', at, at + interval '1 minute', at + interval '1 hour', 'abandoned'
               from public.challenges as c, generate_series(1, 5000) as n,
                    lateral (select timestamptz '2026-01-01Z' + n * interval '1 minute' as at) as start
              where c.slug = 'slack-clone';
             insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at)
             select id, user_id, 1, true, end_time from public.sessions where tech_stack = 'Rust' and status = 'abandoned';
             analyze public.sessions, public.milestones, public.submissions"
        ))
        .await
        .expect("five thousand runs of another runner");
    let visitor = world.client("anon").await;
    for table in ["sessions", "milestones"] {
        for condition in ["", &format!("where user_id = '{victim}'")] {
            let explain = format!(
                "explain (analyze, costs off) select count(*) from public.{table} {condition}"
            );
            let plan = texts(&visitor, &explain)
                .await
                .into_iter()
                .collect::<Vec<_>>()
                .join("\n");
            assert!(!plan.contains("Removed by Filter"), "{plan}");
        }
    }
}

#[tokio::test]
async fn nobody_calls_a_function_of_ours_by_its_name() {
    let world = World::make().await;
    let owner = world.app.sql().await;
    let calls = texts(
        &owner,
        "select format('select %s(%s)', p.oid::regproc,
                  (select string_agg(format('(select null::%s)', argument::regtype), ', ') from unnest(p.proargtypes) as argument))
           from pg_proc as p
           join pg_namespace as n on n.oid = p.pronamespace
          where n.nspname in ('public', 'private') and p.prorettype <> 'trigger'::regtype",
    )
    .await;
    assert!(calls.len() >= 30, "{calls:#?}");
    for subject in SUBJECTS {
        let client = world.client(subject).await;
        for call in &calls {
            let state = fails(&client, call).await;
            let name = call
                .trim_start_matches("select ")
                .split('(')
                .next()
                .unwrap_or_default();
            // service_role may enter the schema. So it may execute the functions that its policies and defaults call,
            // and no others.
            let listed = EXECUTABLE.iter().any(|(roles, functions)| {
                roles.contains("service_role")
                    && functions
                        .split_whitespace()
                        .any(|function| function == name)
            });
            if role(subject) == "service_role" && listed {
                continue;
            }
            assert_eq!(state.as_deref(), Some("42501"), "{subject}: {call}");
        }
    }
}
