//! The matrix through `/rest/v1`.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    support::{
        actor::{Answer, answer},
        app::TestApp,
        cluster::Database,
        postgrest::PostgRest,
        program::tell_untold,
    },
    tokens::forge,
};

use super::{CLOSED, Relation, SUBJECTS, World, cell, open, role, texts};

/// Uses `/rest/v1` as a subject does. The service refuses service_role there, so service_role asks PostgREST itself.
struct Rest {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Rest {
    fn of(world: &World, postgrest: &PostgRest, subject: &str) -> Self {
        let (base, token) = match subject {
            "service" => (
                postgrest.url.to_string(),
                Some(forge(&json!({ "role": "service_role" }))),
            ),
            "anon" => (format!("{}/rest/v1", world.app.base), None),
            _ => (
                format!("{}/rest/v1", world.app.base),
                world.actors[subject].token.clone(),
            ),
        };
        Rest {
            client: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            base,
            token,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        answer(
            self.request(Method::GET, path)
                .header("Prefer", "count=exact"),
        )
        .await
    }
}

/// The keys of the rows of an answer, and the count that came with them.
fn rows(answer: Answer, relation: &Relation, what: &str) -> BTreeSet<String> {
    let range = answer.headers["content-range"]
        .to_str()
        .expect("a range")
        .to_owned();
    let total = range.split_once('/').map(|(_, total)| total.to_owned());
    assert!(answer.status.is_success(), "{what}: {:#}", answer.body);
    let rows = answer.body.as_array().expect("rows");
    let key = |row: &Value| -> Vec<String> {
        let parts = relation.keys.iter().map(|column| row[column].to_string());
        parts
            .map(|part| part.trim_matches('"').to_owned())
            .collect()
    };
    let keys: BTreeSet<_> = rows.iter().map(|row| key(row).join("/")).collect();
    assert_eq!(total, Some(keys.len().to_string()), "{what}: the count");
    keys
}

/// All ids that an embedding answer holds under a name, at any depth.
fn embedded(value: &Value, name: &str, ids: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| embedded(item, name, ids)),
        Value::Object(fields) => {
            for (field, value) in fields {
                if field == name {
                    let one = std::slice::from_ref(value);
                    let rows = value.as_array().map_or(one, Vec::as_slice);
                    ids.extend(
                        rows.iter()
                            .filter_map(|row| row["id"].as_str())
                            .map(str::to_owned),
                    );
                }
                embedded(value, name, ids);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn through_rest_v1_each_subject_sees_the_same_and_learns_nothing_else() {
    let database = Database::migrated().await;
    let Some(postgrest) = PostgRest::beside(&database).await else {
        tell_untold("the matrix through /rest/v1", "postgrest or postrust");
        return;
    };
    let url = postgrest.url.clone();
    let app = TestApp::start_on(database, |config| {
        config.postgrest_url = Some(url);
        config.rate_limits = "off".parse().expect("limits");
    })
    .await;
    let world = World::make_on(app).await;
    let owner = world.app.sql().await;
    let open = open(&owner).await;
    let functions = texts(
        &owner,
        "select distinct proname::text from pg_proc
          where pronamespace in ('public'::regnamespace, 'private'::regnamespace, 'speedcoding'::regnamespace)",
    )
    .await;
    let nobodys = "00000000-0000-7000-8000-000000000000";

    for subject in SUBJECTS {
        let rest = Rest::of(&world, &postgrest, subject);
        if subject == "banned" {
            for relation in &open {
                rest.get(&relation.path())
                    .await
                    .problem(403, "account_banned");
            }
            continue;
        }
        // No refusal may contain text of a hidden row.
        let hidden: BTreeSet<_> = {
            let submissions = open
                .iter()
                .find(|relation| relation.name == "public.submissions")
                .expect("it");
            let (sees, _) = cell(submissions.sees, subject);
            let all = world.keys(submissions, "all", subject).await;
            &all - &world.keys(submissions, &sees, subject).await
        };
        let keeps = |answer: &Answer, what: &str| {
            let text = answer.body.to_string();
            assert!(
                !text.contains("nobody's business"),
                "{subject}: {what}: {text}"
            );
            for id in &hidden {
                assert!(
                    what.contains(id.as_str()) || !text.contains(id.as_str()),
                    "{subject}: {what}: {text}"
                );
            }
        };

        for relation in &open {
            let (sees, writes) = cell(relation.sees, subject);
            let what = format!("{subject}: {}", relation.name);
            let path = format!("{}?select={}", relation.path(), relation.keys.join(","));
            if sees == "-" {
                let refused = rest.get(&path).await;
                // A visitor may log in, so the answer is 401. To a user, 403 says that another login would not help.
                let status = if role(subject) == "anon" { 401 } else { 403 };
                assert_eq!(refused.status, status, "{what}: {:#}", refused.body);
                keeps(&refused, &path);
                continue;
            }
            let visible = world.keys(relation, &sees, subject).await;
            assert_eq!(
                rows(rest.get(&path).await, relation, &what),
                visible,
                "{what}"
            );

            // PostgREST answers for a hidden row as for a missing row. This holds for every condition that a client can
            // ask with.
            let all = world.keys(relation, "all", subject).await;
            let unseen: Vec<_> = all.difference(&visible).take(3).collect();
            let nobody = vec![nobodys; relation.keys.len()].join("/");
            let nobody = if relation.name == "public.challenge_milestones" {
                format!("{nobodys}/1")
            } else {
                nobody
            };
            for key in &unseen {
                let asked = rest.get(&format!("{path}&or=({})", relation.is(key))).await;
                let invented = rest
                    .get(&format!("{path}&or=({})", relation.is(&nobody)))
                    .await;
                assert_eq!(asked.body, json!([]), "{what}");
                assert_eq!(
                    (asked.status, asked.body, &asked.headers["content-range"]),
                    (
                        invented.status,
                        invented.body,
                        &invented.headers["content-range"]
                    ),
                    "{what}"
                );
                let head = rest.request(Method::HEAD, &format!("{path}&or=({})", relation.is(key)));
                let head = answer(head.header("Prefer", "count=exact")).await;
                assert_eq!(head.headers["content-range"], "*/0", "{what}");
            }
            if let Some(seen) = visible.first() {
                let conditions = unseen
                    .iter()
                    .copied()
                    .chain([seen])
                    .map(|key| relation.is(key));
                let or = conditions.collect::<Vec<_>>().join(",");
                let found = rows(
                    rest.get(&format!("{path}&or=({or})")).await,
                    relation,
                    &what,
                );
                assert_eq!(found, BTreeSet::from([seen.clone()]), "{what}: or");
                let others = rows(
                    rest.get(&format!("{path}&not.or=({or})")).await,
                    relation,
                    &what,
                );
                assert_eq!(others.len(), visible.len() - 1, "{what}: not.or");
            }

            // A refused write does not show the hidden row either.
            if writes {
                continue;
            }
            let column = &relation.columns[0];
            for key in unseen
                .iter()
                .map(|key| key.as_str())
                .chain([nobody.as_str()])
            {
                let one = format!("{}?or=({})", relation.path(), relation.is(key));
                let body = json!({ column.to_owned(): key.split('/').next() });
                for (method, path) in [
                    (Method::POST, relation.path()),
                    (Method::PATCH, one.clone()),
                    (Method::DELETE, one),
                ] {
                    let request = rest.request(method.clone(), &path).json(&body);
                    let refused = answer(request.header("Prefer", "return=representation")).await;
                    assert!(
                        refused.status.is_client_error(),
                        "{what}: {method}: {refused:?}"
                    );
                    keeps(&refused, &format!("{path} {body}"));
                    let text = refused.body.to_string();
                    assert!(
                        !text.contains(key.split('/').next().unwrap_or_default()),
                        "{what}: {text}"
                    );
                }
            }
        }

        // Embedded rows are rows of each table that the subject may see, and no others.
        for (path, all) in [
            (
                "/sessions?select=id,milestones(id),submissions(id),users(id)",
                true,
            ),
            (
                "/users?select=id,sessions(id,milestones(id),submissions(id))",
                false,
            ),
            (
                "/challenges?select=id,sessions(id,milestones(id),submissions(id))",
                false,
            ),
        ] {
            let nested = rest.get(path).await;
            assert!(nested.status.is_success(), "{subject}: {:#}", nested.body);
            for name in ["sessions", "milestones", "submissions"] {
                let relation = format!("public.{name}");
                let relation = open.iter().find(|open| open.name == relation).expect("it");
                let visible = world
                    .keys(relation, &cell(relation.sees, subject).0, subject)
                    .await;
                let mut ids = BTreeSet::new();
                embedded(&nested.body, name, &mut ids);
                assert!(ids.is_subset(&visible), "{subject}: {path}: {name}");
                assert!(
                    !all || name == "sessions" || ids == visible,
                    "{subject}: {path}: {name}"
                );
            }
        }

        // Objects outside the exposed schemas do not exist for clients. This depends on the role alone, so one subject
        // of each role is enough.
        if ["anon", "stranger", "service"].contains(&subject) {
            for name in CLOSED
                .split_whitespace()
                .map(|name| name.trim_start_matches("private."))
            {
                let missing = rest.get(&format!("/{name}")).await;
                assert_eq!(missing.status, 404, "{subject}: {name}: {:#}", missing.body);
                let related = rest.get(&format!("/users?select=id,{name}(*)")).await;
                assert_eq!(related.status, 400, "{subject}: {name}: {:#}", related.body);
                let profile = rest
                    .request(Method::GET, &format!("/{name}"))
                    .header("Accept-Profile", "private");
                assert_eq!(answer(profile).await.status, 406, "{subject}: {name}");
            }
            for name in &functions {
                let call = rest
                    .request(Method::POST, &format!("/rpc/{name}"))
                    .json(&json!({}));
                assert_eq!(answer(call).await.status, 404, "{subject}: {name}");
                let call = rest
                    .request(Method::POST, &format!("/rpc/{name}"))
                    .json(&json!({}));
                let profile = if name == "check_request" {
                    "speedcoding"
                } else {
                    "private"
                };
                let call = answer(call.header("Content-Profile", profile)).await;
                assert_eq!(call.status, 406, "{subject}: {name}: {:#}", call.body);
            }
        }

        // A failed cast quotes the value that it met. It may meet only rows that the subject sees.
        let cast = "/submissions?select=review_reason::integer&status=eq.REJECTED";
        let cast = rest.get(cast).await;
        let sees_one = matches!(subject, "owner" | "moderator" | "service");
        assert_eq!(cast.status.is_success(), !sees_one, "{subject}");
        if !sees_one {
            keeps(&cast, "a cast");
        }
    }

    // At `/rest/v1` the service refuses the project's secret key.
    let service = forge(&json!({ "role": "service_role" }));
    let visitor = world.app.visitor().with_token(service);
    visitor
        .get("/rest/v1/users")
        .await
        .problem(401, "invalid_token");
}
