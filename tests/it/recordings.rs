//! Recordings in the project's own storage: the rights on the bucket, and the recordings that a submission may name.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use speedcoding::db::migrate::migrate;
use tokio_postgres::Client;
use url::Url;

use crate::support::{
    actor::{Actor, text},
    app::TestApp,
    cluster::Database,
    program::Scratch,
};

const PROJECT: &str = "https://project.supabase.example";

/// The service in front of a Supabase project, whose owner may make policies for Storage.
async fn project() -> TestApp {
    let (database, owner_url) = Database::project().await;
    let give = "do $$ begin
        execute format('alter table storage.objects owner to %I',
          (select pg_get_userbyid(datdba) from pg_database where datname = current_database()));
      end $$";
    let superuser = database.owner().await;
    superuser.batch_execute(give).await.expect("another owner");
    migrate(&owner_url).await.expect("migrations");
    serve(database, owner_url).await
}

async fn serve(database: Database, owner_url: SecretString) -> TestApp {
    TestApp::start_on(database, |config| {
        config.database_url = Some(owner_url);
        config.supabase_url = Some(Url::parse(PROJECT).expect("a URL"));
        config.supabase_anon_key = Some("sb_publishable_key".to_owned());
    })
    .await
}

/// Storage as a user sees it: one of PostgREST's roles, with the claims of the token.
struct Storage {
    client: Client,
}

impl Storage {
    async fn of(app: &TestApp, actor: Option<&Actor>) -> Self {
        let claims = actor.map(|actor| json!({ "sub": actor.id, "role": "authenticated" }));
        let role = actor.map_or("anon", |_| "authenticated");
        Storage {
            client: app.database.role(role, claims.as_ref()).await,
        }
    }

    async fn upload(&self, path: &str) -> bool {
        let statement = "insert into storage.objects (bucket_id, name) values ('recordings', $1)";
        match self.client.execute(statement, &[&path]).await {
            Ok(rows) => rows == 1,
            Err(error) => {
                assert_eq!(
                    error.code().map(|code| code.code()),
                    Some("42501"),
                    "{path}: {error:?}"
                );
                false
            }
        }
    }

    async fn sees(&self) -> Vec<String> {
        let rows = self
            .client
            .query(
                "select split_part(name, '/', 3) from storage.objects order by 1",
                &[],
            )
            .await
            .expect("objects");
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn changes(&self, statement: &str) -> u64 {
        self.client.execute(statement, &[]).await.expect(statement)
    }

    async fn delete(&self, file: &str) -> u64 {
        self.changes(&format!(
            "delete from storage.objects where name like '%/{file}'"
        ))
        .await
    }
}

fn url(path: &str) -> String {
    format!("{PROJECT}/storage/v1/object/authenticated/recordings/{path}")
}

#[tokio::test]
async fn a_recording_is_its_runners_until_it_is_approved_and_nobody_changes_what_was_seen() {
    let app = project().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let mona = app.user_with_role("mona", "moderator").await;
    let vera = app.user_with_role("vera", "verifier").await;
    let session = alice.start("freestyle").await;
    let of_bob = bob.start("freestyle").await;
    let (anon, alices, bobs) = (
        Storage::of(&app, None).await,
        Storage::of(&app, Some(&alice)).await,
        Storage::of(&app, Some(&bob)).await,
    );
    let folder = format!("{}/{session}", alice.id);

    // A runner may upload only under <user id>/<session id>/, for a session of their own.
    for path in [
        "take.mp4".to_owned(),
        format!("{}/take.mp4", alice.id),
        format!("{session}/take.mp4"),
        format!("{folder}/"),
        format!("{folder}/.hidden"),
        format!("{folder}/../{of_bob}/take.mp4"),
        format!("{folder}/deeper/take.mp4"),
        format!("{folder}/take%2f.mp4"),
        format!("/{folder}/take.mp4"),
        format!("{}/take.mp4", folder.to_uppercase()),
        format!("{}/{of_bob}/take.mp4", alice.id),
        format!("{}/{of_bob}/take.mp4", bob.id),
        format!("{}/{session}/take.mp4", bob.id),
        format!("{}/00000000-0000-7000-8000-000000000000/take.mp4", alice.id),
    ] {
        assert!(!alices.upload(&path).await, "{path}");
    }
    let take = format!("{folder}/take.mp4");
    assert!(!anon.upload(&take).await);
    assert!(!bobs.upload(&take).await);
    assert!(alices.upload(&take).await);
    assert!(alices.upload(&format!("{folder}/other.mp4")).await);
    assert!(alices.upload(&format!("{folder}/mistake.mp4")).await);
    let elsewhere =
        "insert into storage.objects (bucket_id, name) select null, name from storage.objects";
    assert!(alices.client.execute(elsewhere, &[]).await.is_err());

    alice
        .end_with(&session, json!([]), json!(url(&take)))
        .await
        .ok(200);
    assert_eq!(
        alices.sees().await,
        ["mistake.mp4", "other.mp4", "take.mp4"]
    );
    let moderators = Storage::of(&app, Some(&mona)).await;
    assert_eq!(moderators.sees().await.len(), 3);
    let nothing: [String; 0] = [];
    for somebody in [&anon, &bobs, &Storage::of(&app, Some(&vera)).await] {
        assert_eq!(somebody.sees().await, nothing);
    }

    // A recording that is handed in cannot change. Its runner can delete any other.
    for somebody in [&alices, &bobs, &moderators, &anon] {
        let change = "update storage.objects set name = name || '.mp4'";
        assert_eq!(somebody.changes(change).await, 0);
        assert_eq!(somebody.delete("take.mp4").await, 0);
    }
    for somebody in [&bobs, &moderators, &anon] {
        assert_eq!(somebody.delete("mistake.mp4").await, 0);
    }
    assert_eq!(alices.delete("mistake.mp4").await, 1);
    assert!(
        alices.upload(&format!("{folder}/late.mp4")).await,
        "uploads work until the review"
    );

    let owner = app.sql().await;
    owner
        .batch_execute(
            "update public.submissions set status = 'APPROVED';
             update public.users set role = 'runner' where username = 'mona';
             insert into public.bans (user_id) select id from public.users where username = 'bob'",
        )
        .await
        .expect("an approval, a demotion, and a ban");
    for somebody in [&anon, &bobs, &moderators] {
        assert_eq!(
            somebody.sees().await,
            ["take.mp4"],
            "only the approved recording"
        );
    }
    assert!(
        !alices.upload(&format!("{folder}/later.mp4")).await,
        "the decision ends uploads"
    );
    assert_eq!(alices.delete("take.mp4").await, 0);
    assert!(
        !bobs.upload(&format!("{}/{of_bob}/take.mp4", bob.id)).await,
        "banned"
    );
}

#[tokio::test]
async fn a_submission_names_a_recording_of_its_own_or_none_of_storage() {
    let app = project().await;
    let (alice, bob) = (app.runner("alice").await, app.runner("bob").await);
    let earlier = alice.start("freestyle").await;
    alice
        .end_with(&earlier, json!([]), json!("https://youtu.be/abc"))
        .await
        .ok(200);
    let session = alice.start("freestyle").await;
    let of_bob = bob.start("freestyle").await;

    let folder = format!("{}/{session}", alice.id);
    let of_another = url(&format!("{}/{of_bob}/take.mp4", bob.id));
    let ended = alice
        .end_with(&session, json!([]), json!(of_another))
        .await
        .ok(200);
    assert_eq!(ended["submission"]["videoUrl"], Value::Null);
    assert_eq!(
        (
            &ended["warnings"][0]["field"],
            &ended["warnings"][0]["code"]
        ),
        (&json!("videoUrl"), &json!("not_yours"))
    );
    let handed_in = format!("/submissions/{}", text(&ended, "/submission/id"));
    let edit = async |video_url: &str| {
        let body = json!({ "revision": 1, "videoUrl": video_url });
        alice.patch(&handed_in, body).await.faults()
    };
    for path in [
        format!("{}/{of_bob}/take.mp4", bob.id),
        format!("{}/{session}/take.mp4", bob.id),
        format!("{}/{of_bob}/take.mp4", alice.id),
        format!("{}/{earlier}/take.mp4", alice.id),
        format!("{folder}/../../{}/{of_bob}/take.mp4", bob.id),
        format!("{folder}/%2e%2e/take.mp4"),
        format!("{folder}/..%2ftake.mp4"),
        format!("{folder}/deeper/take.mp4"),
        format!("{folder}//take.mp4"),
        format!("{folder}/"),
        folder.clone(),
        String::new(),
    ] {
        let refused = edit(&url(&path)).await;
        assert_eq!(
            refused,
            [("videoUrl".to_owned(), "not_yours".to_owned())],
            "{path}"
        );
    }
    for wrong in [
        format!("{PROJECT}/storage/v1/object/public/avatars/{folder}/take.mp4"),
        format!("{PROJECT}/storage/v1/object/info/recordings/{folder}/take.mp4"),
        format!("{PROJECT}/storage/v1/../v1/object/public/recordings/{folder}/take.mp4"),
        format!("{PROJECT}//storage/v1/object/public/recordings/{folder}/take.mp4"),
        format!("{PROJECT}/rest/v1/users"),
        format!(
            "https://other.supabase.example/storage/v1/object/public/recordings/{folder}/take.mp4"
        ),
        format!(
            "https://evil.project.supabase.example/storage/v1/object/public/recordings/{folder}/take.mp4"
        ),
        format!(
            "https://project.supabase.example:444/storage/v1/object/public/recordings/{folder}/take.mp4"
        ),
        format!(
            "http://project.supabase.example/storage/v1/object/public/recordings/{folder}/take.mp4"
        ),
    ] {
        let refused = edit(&wrong).await;
        assert_eq!(
            refused,
            [("videoUrl".to_owned(), "video_url".to_owned())],
            "{wrong}"
        );
    }
    for kind in ["public", "sign", "authenticated"] {
        let runner = app.runner(&format!("runner_{kind}")).await;
        let session = runner.start("freestyle").await;
        let query = if kind == "sign" { "?token=abc.def" } else { "" };
        let video_url = format!(
            "{PROJECT}/storage/v1/object/{kind}/recordings/{}/{session}/take-1_final.mp4{query}",
            runner.id
        );
        let ended = runner
            .end_with(&session, json!([]), json!(video_url))
            .await
            .ok(200);
        assert_eq!(ended["submission"]["videoUrl"], video_url.as_str());
    }

    // A correction, by the runner or in the dashboard, must name a recording of the same session, too.
    let submission = alice.session(&earlier).await.ok(200);
    let submission = text(&submission, "/submission/id");
    let patch = async |video_url: String| {
        let body = json!({ "revision": 1, "videoUrl": video_url });
        alice.edit(&submission, body).await
    };
    let refused = patch(url(&format!("{}/{session}/take.mp4", alice.id))).await;
    assert_eq!(
        refused.faults(),
        [("videoUrl".to_owned(), "not_yours".to_owned())]
    );
    let own = url(&format!("{}/{earlier}/take.mp4", alice.id));
    assert_eq!(patch(own.clone()).await.ok(200)["videoUrl"], own.as_str());

    let owner = app.sql().await;
    let correct = "update public.submissions set video_url = $1 where session_id = $2::text::uuid";
    let wrong = url(&format!("{}/{session}/take.mp4", alice.id));
    let refused = owner.execute(correct, &[&wrong, &earlier]).await;
    let refused = refused.expect_err("a refusal");
    let refused = refused.as_db_error().expect("PostgreSQL's error");
    assert_eq!(refused.constraint(), Some("submissions_recording_own"));
    let right = url(&format!("{}/{earlier}/take.mp4", alice.id));
    assert_eq!(
        owner
            .execute(correct, &[&right, &earlier])
            .await
            .expect("a correction"),
        1
    );
}

/// The bucket and the policies, if they exist.
async fn bucket_and_policies(client: &Client) -> (Value, Vec<String>) {
    let row = client
        .query_one(
            "select (select to_jsonb(b) - '{created_at,updated_at,owner,file_size_limit}'::text[]
                       from storage.buckets as b),
                    (select coalesce(array_agg(polname::text order by polname), '{}') from pg_policy
                      where polrelid = 'storage.objects'::regclass)",
            &[],
        )
        .await
        .expect("a bucket");
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn where_the_owner_may_not_open_the_bucket_it_stays_closed_until_a_superuser_opens_it() {
    let (database, owner_url) = Database::project().await;
    let scratch = Scratch::new();
    let migrated = scratch
        .program(&["migrate"])
        .on(owner_url.expose_secret())
        .finish()
        .await
        .well();
    for word in ["WARN", "must be owner", "select private.open_recordings()"] {
        assert!(migrated.stderr.contains(word), "{}", migrated.stderr);
    }
    let app = serve(database, owner_url).await;
    let alice = app.runner("alice").await;
    let session = alice.start("freestyle").await;
    let take = format!("{}/{session}/take.mp4", alice.id);
    let superuser = app.sql().await;

    let bucket = json!({
        "id": "recordings", "name": "recordings", "public": false, "allowed_mime_types": ["video/*"]
    });
    assert_eq!(
        bucket_and_policies(&superuser).await,
        (bucket.clone(), vec![])
    );
    let storage = Storage::of(&app, Some(&alice)).await;
    assert!(!storage.upload(&take).await);

    // The superuser does what the warning says.
    for _ in 0..2 {
        superuser
            .batch_execute("select private.open_recordings()")
            .await
            .expect("policies");
        let policies =
            ["delete", "read", "upload"].map(|verb| format!("speedcoding_recordings_{verb}"));
        assert_eq!(
            bucket_and_policies(&superuser).await,
            (bucket.clone(), policies.to_vec())
        );
    }
    assert!(storage.upload(&take).await);
    assert_eq!(storage.sees().await, ["take.mp4"]);
}
