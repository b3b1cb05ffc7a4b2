//! On a look-alike of a Supabase project: its owner is no superuser, and default privileges give clients every right.

use secrecy::{ExposeSecret, SecretString};
use speedcoding::{db::migrate::migrate, embedded::Embedded};
use tokio_postgres::Client;

use crate::support::{
    app::TestApp,
    cluster::{Database, LOOKALIKE, connect, with_database},
    program::Scratch,
};

/// The rights on all of our objects: those of clients, those of the dashboard's role, and those of everybody.
async fn grants(owner: &Client) -> Vec<String> {
    let rows = owner
        .query(
            "with ours as (
               select oid, nspname from pg_namespace where nspname in ('public', 'private', 'speedcoding')
             ),
             privileged (what, acl) as (
               select format('schema %I', nspname), coalesce(n.nspacl, acldefault('n', n.nspowner))
                 from pg_namespace as n where n.oid in (select oid from ours)
                union all
               select format('%s %I.%I', c.relkind, ours.nspname, c.relname),
                      coalesce(c.relacl, acldefault((case c.relkind when 'S' then 's' else 'r' end)::\"char\", c.relowner))
                 from pg_class as c join ours on ours.oid = c.relnamespace
                where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
                union all
               select format('column %I.%I.%I', ours.nspname, c.relname, a.attname), a.attacl
                 from pg_attribute as a
                 join pg_class as c on c.oid = a.attrelid
                 join ours on ours.oid = c.relnamespace
                where a.attacl is not null
                union all
               select format('function %I.%I(%s)', ours.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
                      coalesce(p.proacl, acldefault('f', p.proowner))
                 from pg_proc as p join ours on ours.oid = p.pronamespace
             )
             select format('%s: %s to %s', what, acl.privilege_type,
                      case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end)
               from privileged, aclexplode(acl) as acl
              where acl.grantee = 0
                 or acl.grantee in ('anon'::regrole, 'authenticated'::regrole, 'service_role'::regrole)
              order by 1",
            &[],
        )
        .await
        .expect("grants");
    rows.iter().map(|row| row.get(0)).collect()
}

/// A project with nothing of ours in it, on a cluster of its own.
pub struct Project {
    pub scratch: Scratch,
    pub embedded: Embedded,
    pub superuser_url: SecretString,
    /// The URL of the role that migrates. The dashboard works as this role, too. It is no superuser.
    pub owner_url: SecretString,
}

pub async fn project() -> Project {
    let scratch = Scratch::new();
    let embedded = Embedded::start(&scratch.path("data"), &[("fsync", "off")])
        .await
        .expect("a PostgreSQL");
    connect(embedded.url())
        .await
        .batch_execute("create database project")
        .await
        .expect("a database");
    let superuser_url = with_database(embedded.url(), "project");
    let superuser = connect(&superuser_url).await;
    superuser
        .batch_execute(LOOKALIKE)
        .await
        .expect("a look-alike");
    // This checks that it looks alike: clients have rights on everything that its owner makes.
    let row = superuser
        .query_one(
            "select pg_get_userbyid(datdba)::text, r.rolsuper, r.rolbypassrls,
                    exists (select from pg_default_acl where defaclrole = datdba and defaclobjtype = 'r')
               from pg_database join pg_roles as r on r.oid = datdba
              where datname = current_database()",
            &[],
        )
        .await
        .expect("an owner");
    let owner: String = row.get(0);
    assert_eq!((row.get(1), row.get(2), row.get(3)), (false, true, true));
    superuser
        .batch_execute(&format!("alter role {owner} password 'sesame-sesame'"))
        .await
        .expect("a password");
    let mut url = url::Url::parse(superuser_url.expose_secret()).expect("a URL");
    url.set_username(&owner).expect("a user");
    url.set_password(Some("sesame-sesame")).expect("a password");
    Project {
        scratch,
        embedded,
        superuser_url,
        owner_url: SecretString::from(url.to_string()),
    }
}

#[tokio::test]
async fn a_supabase_project_is_migrated_served_and_no_more_open_than_a_plain_database() {
    let Project {
        scratch,
        embedded,
        superuser_url,
        owner_url,
    } = project().await;
    let superuser = connect(&superuser_url).await;
    assert!(!migrate(&owner_url).await.expect("migrations").is_empty());
    assert_eq!(migrate(&owner_url).await.expect("quiet"), [""; 0]);

    let app = TestApp::start_on(Database::at(owner_url.clone()), |_| {}).await;
    let ended = app.runner("alice").await.complete_run().await;
    assert_eq!(ended["status"], "completed");

    let plain = Database::empty().await;
    migrate(plain.url()).await.expect("migrations");
    assert_eq!(grants(&superuser).await, grants(&plain.owner().await).await);
    for role in ["anon", "authenticated"] {
        let client = connect(&superuser_url).await;
        client
            .batch_execute(&format!("set role {role}"))
            .await
            .expect("a role");
        for statement in [
            "insert into public.users (username) values ('mallory')",
            "delete from public.users",
            "truncate public.users cascade",
            "select from private.credentials",
        ] {
            let refused = client.batch_execute(statement).await.expect_err(statement);
            assert_eq!(
                refused.code().map(|code| code.code()),
                Some("42501"),
                "{role}: {statement}"
            );
        }
    }

    let doctor = || {
        let doctor = scratch.program(&["doctor"]);
        doctor.on(owner_url.expose_secret()).finish()
    };
    let sound = doctor().await.well().stdout;
    assert!(sound.contains("Supabase Storage has "), "{sound}");
    for (change, told) in [
        (
            "update storage.buckets set public = true",
            "set public = false",
        ),
        ("delete from storage.buckets", "open_recordings()"),
    ] {
        superuser.batch_execute(change).await.expect(change);
        let said = doctor().await.stdout;
        assert!(said.contains(told), "{change}: {said}");
    }

    // The project's owner gives the service a login of its own, and the program serves with it.
    let printed = scratch
        .program(&["db", "login"])
        .env(
            "DATABASE_URL",
            secrecy::ExposeSecret::expose_secret(&owner_url),
        )
        .finish()
        .await
        .well()
        .stdout;
    let program = scratch
        .program(&["serve"])
        .on(printed.trim_end())
        .serve()
        .await;
    program.visitor().register("bob").await.complete_run().await;
    program.stop().await.well();

    drop(superuser);
    embedded.stop().await;
}
