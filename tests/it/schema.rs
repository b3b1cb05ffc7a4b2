//! The result of the migrations: the functions and statements of `sql/`, and the house rules.

use std::{collections::BTreeMap, fs, path::Path};

use speedcoding::db::query;
use tokio_postgres::Client;

use crate::support::cluster::{first_column, migrated};

/// The texts of a folder under `sql/`, by their names without the ending.
fn texts(folder: &str) -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("sql")
        .join(folder);
    fs::read_dir(directory)
        .expect("a folder")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let name = path.file_stem().expect("a name").to_string_lossy();
            assert!(
                path.extension().is_some_and(|ending| ending == "sql"),
                "{name}"
            );
            (
                name.into_owned(),
                fs::read_to_string(&path).expect("a text"),
            )
        })
        .collect()
}

/// Everything that defines a function, by the function's signature.
async fn functions(client: &Client) -> BTreeMap<String, String> {
    client
        .query(include_str!("../functions.sql"), &[])
        .await
        .expect("functions")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

#[tokio::test]
async fn each_file_of_sql_functions_is_exactly_the_function_that_the_migrations_leave() {
    let (_database, owner) = migrated().await;
    let migrated = functions(&owner).await;
    let files = texts("functions");
    let name = |signature: &str| signature.split('(').next().unwrap_or_default().to_owned();
    let in_database: Vec<_> = migrated.keys().map(|signature| name(signature)).collect();
    let in_files: Vec<_> = files.keys().cloned().collect();
    assert_eq!(
        in_database, in_files,
        "in the database (left), in sql/functions (right)"
    );

    for (signature, expected) in &migrated {
        // The function is set aside, so that the file has to make all of it: owner, grants, comment.
        owner
            .batch_execute(&format!(
                "begin; alter function {signature} rename to set_aside;"
            ))
            .await
            .expect(signature);
        let text = &files[&name(signature)];
        owner.batch_execute(text).await.expect(signature);
        let mut made = functions(&owner).await;
        assert_eq!(
            made.get(signature),
            Some(expected),
            "sql/functions differs in {signature}"
        );
        // Nothing else has changed.
        made.retain(|other, _| !other.contains(".set_aside("));
        assert_eq!(made, migrated, "{signature}");

        // If the file is applied on top of the existing functions, it changes nothing either.
        owner
            .batch_execute("rollback; begin;")
            .await
            .expect("an undoing");
        owner.batch_execute(text).await.expect(signature);
        assert_eq!(functions(&owner).await, migrated, "{signature}");
        owner.batch_execute("rollback").await.expect("an undoing");
    }
}

#[tokio::test]
async fn functions_pin_their_search_path_and_are_granted_by_name() {
    let (_database, owner) = migrated().await;
    let careless = first_column(
        &owner,
        "select p.oid::regprocedure::text
           from pg_proc as p
          where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace, 'speedcoding'::regnamespace)
            and not coalesce(p.proconfig, '{}') && array['search_path=pg_catalog, pg_temp', 'search_path=\"\"']",
    )
    .await;
    assert_eq!(careless, [""; 0], "search_path is not pinned");

    // With a search_path of its own an SQL function is never inlined, and PostgreSQL before 18 plans it on each call:
    // describe_session() made get_session() three times as long.
    let planned_anew = first_column(
        &owner,
        "select p.oid::regprocedure::text
           from pg_proc as p
           join pg_language as l on l.oid = p.prolang
          where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace, 'speedcoding'::regnamespace)
            and l.lanname <> 'plpgsql'
            and not p.proretset",
    )
    .await;
    assert_eq!(planned_anew, [""; 0], "not PL/pgSQL");

    let for_everyone = first_column(
        &owner,
        "select p.oid::regprocedure::text
           from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as acl
          where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace, 'speedcoding'::regnamespace)
            and acl.grantee = 0",
    )
    .await;
    assert_eq!(for_everyone, [""; 0], "EXECUTE for PUBLIC");

    // The role that migrates may be a superuser, so it must own no function that runs with its owner's rights.
    let lent = first_column(
        &owner,
        "select p.oid::regprocedure::text
           from pg_proc as p
          where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace, 'speedcoding'::regnamespace)
            and p.prosecdef
            and p.proowner not in ('speedcoding_writer'::regrole, 'speedcoding_keeper'::regrole)",
    )
    .await;
    assert_eq!(lent, [""; 0], "SECURITY DEFINER of another owner");
}

#[tokio::test]
async fn the_service_sends_the_statements_of_sql_queries_and_no_others() {
    let in_files = texts("queries");
    let mut sent: Vec<_> = query::ALL.iter().map(|query| query.name).collect();
    sent.sort_unstable();
    assert_eq!(sent, in_files.keys().collect::<Vec<_>>());
    for query in query::ALL {
        assert_eq!(query.sql, in_files[query.name], "{}", query.name);
    }
}

#[tokio::test]
async fn every_statement_prepares_as_the_service_with_the_types_that_rust_declares() {
    let (database, _owner) = migrated().await;
    let service = database.role("speedcoding_api", None).await;
    for query in query::ALL {
        // The statement is prepared without types. PostgreSQL must infer the same ones.
        let statement = service.prepare(query.sql).await.expect(query.name);
        assert_eq!(statement.params(), query.types, "{}", query.name);
        for column in statement.columns() {
            // PostgreSQL's own types cost no look-up. Each look-up would be a round trip.
            assert!(column.type_().oid() < 16384, "{}: {column:?}", query.name);
        }
    }
}

#[tokio::test]
async fn everything_that_the_dashboard_shows_is_explained() {
    let (_database, owner) = migrated().await;
    // refinery makes its own history table.
    let mute = first_column(
        &owner,
        "with relations as (
           select c.oid, format('%I.%I', n.nspname, c.relname) as name
             from pg_class as c
             join pg_namespace as n on n.oid = c.relnamespace
            where n.nspname in ('public', 'private')
              and c.relkind in ('r', 'p', 'v', 'm', 'f')
              and (n.nspname, c.relname) <> ('private', 'migration_history')
         )
         select name from relations where obj_description(oid, 'pg_class') is null
          union all
         select format('%s.%I', name, a.attname)
           from relations
           join pg_attribute as a on a.attrelid = relations.oid and a.attnum > 0 and not a.attisdropped
          where col_description(a.attrelid, a.attnum) is null
          union all
         select p.oid::regprocedure::text
           from pg_proc as p
          where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace, 'speedcoding'::regnamespace)
            and obj_description(p.oid, 'pg_proc') is null
          union all
         select t.oid::regtype::text
           from pg_type as t
           left join pg_class as c on c.oid = t.typrelid
          where t.typnamespace in ('public'::regnamespace, 'private'::regnamespace)
            and (t.typtype in ('e', 'd') or c.relkind = 'c')
            and obj_description(t.oid, 'pg_type') is null",
    )
    .await;
    assert_eq!(mute, [""; 0], "without a comment");
}

#[tokio::test]
async fn where_the_dashboard_lets_choose_there_is_an_enum_to_choose_from() {
    let (_database, owner) = migrated().await;
    let chosen = first_column(
        &owner,
        "select distinct format('%I.%I', c.relname, a.attname)
           from pg_attribute as a
           join pg_class as c on c.oid = a.attrelid and c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
           join pg_type as t on t.oid = a.atttypid and t.typtype = 'e'
          order by 1",
    )
    .await;
    assert_eq!(
        chosen,
        [
            "challenge_milestones.verification",
            "sessions.status",
            "submissions.status",
            "users.role"
        ]
    );
    let typed = first_column(
        &owner,
        "select conname::text from pg_constraint
          where connamespace = 'public'::regnamespace and contype = 'c' and pg_get_constraintdef(oid) ~ '= ANY '",
    )
    .await;
    assert_eq!(typed, [""; 0], "a choice that must be typed");
}

#[tokio::test]
async fn every_table_is_fenced_and_every_view_asks_as_its_reader() {
    let (_database, owner) = migrated().await;
    let tables = first_column(
        &owner,
        "select c.oid::regclass::text
           from pg_class as c
          where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
            and c.relkind in ('r', 'p')",
    )
    .await;
    assert!(tables.len() >= 7, "{tables:?}");
    // refinery makes its own history table, which is granted to nobody (roles.rs).
    let unfenced = first_column(
        &owner,
        "select c.oid::regclass::text
           from pg_class as c
          where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
            and c.relkind in ('r', 'p')
            and not c.relrowsecurity
            and c.oid <> 'private.migration_history'::regclass",
    )
    .await;
    assert_eq!(unfenced, [""; 0], "without row-level security");
    let views = first_column(
        &owner,
        "select c.oid::regclass::text
           from pg_class as c
          where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
            and (c.relkind = 'm'
              or c.relkind = 'v' and not coalesce(c.reloptions, '{}') @> array['security_invoker=true'])",
    )
    .await;
    assert_eq!(views, [""; 0], "a view that asks as its owner");
}

#[tokio::test]
async fn every_foreign_key_is_indexed() {
    let (_database, owner) = migrated().await;
    let keys = first_column(
        &owner,
        "select conname::text from pg_constraint where contype = 'f'",
    )
    .await;
    assert!(keys.len() >= 8, "{keys:?}");
    let unindexed = first_column(
        &owner,
        "select format('%s %s', k.conrelid::regclass, pg_get_constraintdef(k.oid))
           from pg_constraint as k
           join pg_class as c on c.oid = k.conrelid
          where k.contype = 'f'
            and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
            and not exists (
              select from pg_index as i
               where i.indrelid = k.conrelid
                 and i.indisvalid
                 and i.indpred is null
                 and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
                 and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] <@ k.conkey
            )",
    )
    .await;
    assert_eq!(unindexed, [""; 0]);
}
