//! What the service says about itself: the OpenAPI document, the page that shows it, its health.

use std::{io::Read as _, path::PathBuf};

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::support::{
    actor::text,
    app::{TestApp, setting_names},
};

fn document() -> Value {
    let yaml = speedcoding::app::openapi().expect("a document");
    serde_yaml_ng::from_str(&yaml).expect("YAML")
}

/// The schema that a `$ref` names, or the schema itself.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else {
        return value;
    };
    let found = reference
        .strip_prefix('#')
        .and_then(|it| document.pointer(it));
    found.unwrap_or_else(|| panic!("nothing at {reference}"))
}

/// Every operation with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods");
            methods
                .iter()
                .map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

#[tokio::test]
async fn the_service_publishes_the_same_document_as_json_and_as_yaml() {
    let app = TestApp::start().await;
    let json = app.visitor().get("/openapi.json").await;
    assert_eq!(json.headers["content-type"], "application/json");
    assert_eq!(json.ok(200), document());
    let yaml = app.visitor().get("/openapi.yaml").await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert_eq!(
        yaml.ok(200),
        speedcoding::app::openapi().expect("a document")
    );
}

#[test]
fn every_operation_has_a_name_a_summary_a_subject_and_its_failures() {
    let document = document();
    let operations = operations(&document);
    assert!(!operations.is_empty());
    for (name, operation) in &operations {
        assert!(operation["operationId"].is_string(), "{name}: operationId");
        let summary = text(operation, "/summary");
        assert!(!summary.is_empty(), "{name}: summary");
        let description = text(operation, "/description");
        assert!(
            !description.is_empty() && description != format!("{summary}."),
            "{name}: description"
        );
        assert_eq!(
            operation["tags"].as_array().map(Vec::len),
            Some(1),
            "{name}: tag"
        );
        let responses = operation["responses"].as_object().expect("responses");
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{name}: success"
        );
        for class in ['4', '5'] {
            let mut failures = responses.keys().filter(|status| status.starts_with(class));
            assert!(failures.next().is_some(), "{name}: {class}xx");
        }
    }
    let mut names: Vec<_> = operations
        .iter()
        .map(|(_, operation)| text(operation, "/operationId"))
        .collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "operation ids are unique: {names:?}");
}

#[test]
fn subjects_come_in_the_order_in_which_a_newcomer_meets_them() {
    let document = document();
    let tags = document["tags"].as_array().expect("tags");
    let names: Vec<_> = tags.iter().map(|tag| text(tag, "/name")).collect();
    assert_eq!(
        names,
        [
            "Auth",
            "Account",
            "Sign-ins",
            "Challenges",
            "Sessions",
            "Milestones",
            "Submissions",
            "Leaderboards",
            "Users",
        ]
    );
}

#[test]
fn a_challenge_is_filled_in_wherever_one_is_asked_for() {
    let document = document();
    let mut asked = 0;
    for (name, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array();
        for parameter in parameters.into_iter().flatten() {
            if parameter["name"] == "slug" {
                assert_eq!(parameter["example"], "slack-clone", "{name}");
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 4);
}

/// In every story `Answer::problem` checks that the service really answers like this.
#[test]
fn each_refusal_shows_an_example_of_each_of_its_codes() {
    let document = document();
    let takes = |operation: &Value, field: &str| {
        let body = operation.pointer("/requestBody/content/application~1json/schema");
        let parameters = operation["parameters"].as_array();
        body.is_some_and(|body| resolve(&document, body)["properties"][field].is_object())
            || parameters.is_some_and(|all| all.iter().any(|it| it["name"] == field))
    };
    let mut seen = std::collections::BTreeSet::new();
    for (name, operation) in operations(&document) {
        let responses = operation["responses"].as_object().expect("responses");
        for (status, response) in responses
            .iter()
            .filter(|(status, _)| status.as_str() >= "400")
        {
            let content = &resolve(&document, response)["content"]["application/problem+json"];
            let codes = content["schema"]["allOf"][1]["properties"]["code"]["enum"].as_array();
            let codes: Vec<_> = codes.expect("codes").iter().collect();
            let examples = content["examples"].as_object().expect("examples");
            let shown: Vec<_> = examples
                .values()
                .map(|it| &resolve(&document, it)["value"])
                .collect();
            let named: Vec<_> = shown.iter().map(|it| &it["code"]).collect();
            assert_eq!(named, codes, "{name}: {status}");
            for example in shown {
                let code = text(example, "/code");
                assert!(
                    speedcoding::openapi::codes::CODES
                        .iter()
                        .any(|known| known.name == code
                            && example["status"] == known.status
                            && known.status.to_string() == *status),
                    "{name}: {status} {code}"
                );
                let field = example.pointer("/errors/0/field").and_then(Value::as_str);
                assert!(
                    field.is_none_or(|field| takes(operation, field)),
                    "{name}: {field:?}"
                );
                seen.insert(example.to_string());
            }
        }
    }
    let kept = document["components"]["examples"].as_object();
    assert_eq!(Some(seen.len()), kept.map(serde_json::Map::len));
}

#[tokio::test]
async fn the_examples_of_refusals_say_what_is_answered() {
    let app = TestApp::start().await;
    let ada = app.visitor().register("ada").await;
    let credentials = json!({ "username": "ada", "password": "analytical engine 1843" });
    for (answer, status, code) in [
        (
            ada.post("/auth/register", credentials).await,
            409,
            "username_taken",
        ),
        (app.visitor().get("/auth/me").await, 401, "missing_token"),
    ] {
        let example = format!("/components/examples/{code}/value/detail");
        assert_eq!(
            text(&answer.problem(status, code), "/detail"),
            text(&document(), &example)
        );
    }
}

#[tokio::test]
async fn the_examples_of_mistakes_are_what_is_answered() {
    let document = document();
    let shown = |field: &str| {
        &document["components"]["examples"][format!("invalid_request.{field}")]["value"]
    };
    let app = TestApp::start().await;
    let visitor = app.visitor();
    for (field, answer) in [
        ("limit", visitor.get("/challenges?limit=0").await),
        ("id", visitor.get("/sessions/1").await),
        (
            "techStack",
            visitor.get("/leaderboards/slack-clone?techStack=").await,
        ),
        (
            "refreshToken",
            visitor.post("/auth/refresh", json!({})).await,
        ),
    ] {
        let told = answer.problem(400, "invalid_request");
        assert_eq!(
            (&told["detail"], &told["errors"]),
            (&shown(field)["detail"], &shown(field)["errors"])
        );
    }
}

#[test]
fn the_document_says_who_must_be_signed_in() {
    let document = document();
    let open: Vec<_> = operations(&document)
        .into_iter()
        .filter(|(_, operation)| operation["security"].as_array().is_none_or(Vec::is_empty))
        .map(|(_, operation)| text(operation, "/operationId"))
        .collect();
    assert_eq!(
        open,
        [
            "register",
            "login",
            "refresh",
            "logout",
            "list_challenges",
            "get_challenge",
            "get_leaderboard",
            "list_records",
            "get_user",
        ]
    );
    let scheme = &document["components"]["securitySchemes"]["bearer"];
    assert_eq!(
        (&scheme["type"], &scheme["scheme"]),
        (&"http".into(), &"bearer".into())
    );
    // A caller may be anonymous or signed in. The document has an empty requirement beside the bearer's.
    let read = &document["paths"]["/sessions/{id}"]["get"]["security"];
    assert!(
        read.as_array()
            .is_some_and(|ways| ways.iter().any(|way| way == &json!({}))),
        "{read}"
    );
}

#[test]
fn what_is_enforced_is_published() {
    let schemas = &document()["components"]["schemas"];
    for body in [
        "Credentials",
        "LoginCredentials",
        "Refresh",
        "Logout",
        "ChangePassword",
        "DeleteMe",
        "StartSession",
        "EndSession",
        "VerifyMilestone",
    ] {
        assert_eq!(schemas[body]["additionalProperties"], false, "{body}");
    }
    assert_eq!(
        schemas["Credentials"]["properties"]["password"]["minLength"],
        8
    );
    assert_eq!(
        schemas["Credentials"]["properties"]["password"]["maxLength"], 512,
        "before it is composed"
    );
    assert_eq!(
        schemas["UpdateSubmission"]["properties"]["packages"]["maxItems"],
        200
    );
    assert_eq!(
        schemas["UpdateSubmission"]["properties"]["packages"]["items"]["maxLength"],
        214
    );
    assert_eq!(schemas["EndSession"]["required"], json!(["sessionId"]));
}

/// Whether a body is one that the published document allows, as a client with its own validator reads it.
fn is_allowed(document: &Value, schema: &str, body: &Value) -> bool {
    let mut schemas = document["components"]["schemas"].clone();
    // JSON Schema has no `nullable`.
    for property in schemas[schema]["properties"]
        .as_object_mut()
        .expect("fields")
        .values_mut()
    {
        if property["nullable"] == true {
            property["type"] = json!([property["type"], "null"]);
        }
    }
    let schema = json!({
        "$ref": format!("#/components/schemas/{schema}"),
        "components": { "schemas": schemas },
    });
    jsonschema::draft4::new(&schema)
        .expect("a schema")
        .is_valid(body)
}

/// Whether the document allows a body, and whether the service takes it. The service may be stricter where no schema
/// can say why.
const TAKEN: (bool, bool) = (true, true);
const REFUSED: (bool, bool) = (false, false);
const ONLY_HERE: (bool, bool) = (true, false);

#[tokio::test]
async fn the_document_refuses_the_urls_that_the_service_refuses_for_their_form() {
    let app =
        TestApp::start_with(|config| config.rate_limits = "off".parse().expect("limits")).await;
    let (document, ada) = (document(), app.runner("ada").await);
    let id = ada.hand_in().await;
    let long = |length: usize| format!("https://youtu.be/{}", "a".repeat(length - 17));
    for (url, expected) in [
        (json!("https://youtu.be/dQw4w9WgXcQ"), TAKEN),
        (json!(" https://youtu.be/dQw4w9WgXcQ\t\n"), TAKEN),
        (json!("\u{3000}https://youtu.be/dQw4w9WgXcQ\u{a0}"), TAKEN),
        (json!("HTTPS://YouTu.be:443/dQw4w9WgXcQ"), TAKEN),
        (
            json!("https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=1m#é"),
            TAKEN,
        ),
        (json!("https://vimeo.com/76979871?h=%20"), TAKEN),
        (json!("https://vimeo.com/76979871#/@:"), TAKEN),
        (json!(long(2048)), TAKEN),
        (json!(null), TAKEN),
        (json!(""), REFUSED),
        (json!(" \n"), REFUSED),
        (json!("youtu.be/dQw4w9WgXcQ"), REFUSED),
        (json!("//youtu.be/dQw4w9WgXcQ"), REFUSED),
        (json!("http://youtu.be/dQw4w9WgXcQ"), REFUSED),
        (
            json!("javascript:alert(1)//https://youtu.be/dQw4w9WgXcQ"),
            REFUSED,
        ),
        (json!("https:youtu.be/dQw4w9WgXcQ"), REFUSED),
        (json!("https:///youtu.be/dQw4w9WgXcQ"), REFUSED),
        (json!("https://"), REFUSED),
        (json!("https:// youtu.be/dQw4w9WgXcQ"), REFUSED),
        (json!("https://ada@youtu.be/dQw4w9WgXcQ"), REFUSED),
        (json!("https://@youtu.be/dQw4w9WgXcQ"), REFUSED),
        (json!("https://youtu.be:8443/dQw4w9WgXcQ"), REFUSED),
        (json!("https://youtu.be:/dQw4w9WgXcQ"), REFUSED),
        (json!("https://[::1]/dQw4w9WgXcQ"), REFUSED),
        (json!("https://ｙoutu.be/dQw4w9WgXcQ"), REFUSED),
        (json!("https://youtu.be%2fdQw4w9WgXcQ"), REFUSED),
        (json!("https://youtu.be\\dQw4w9WgXcQ"), REFUSED),
        (json!("https://youtu.be/dQw4w\\9WgXcQ"), REFUSED),
        (json!("https://youtu.be/dQw4w 9WgXcQ"), REFUSED),
        (json!("https://youtu.be/dQw4w\n9WgXcQ"), REFUSED),
        (json!("https://youtu.be/dQw4w9WgXcQ\u{0}"), REFUSED),
        (json!("https://youtu.be/dQw4w9WgXcQ\u{7f}"), REFUSED),
        (json!("https://youtu.be/\u{202e}dQw4w9WgXcQ"), REFUSED),
        (json!(long(2049)), REFUSED),
        (json!(17), REFUSED),
        (json!("https://example.com/dQw4w9WgXcQ"), ONLY_HERE),
        (json!("https://youtu.be.example.com/dQw4w9WgXcQ"), ONLY_HERE),
        (json!("https://youtu.be../dQw4w9WgXcQ"), ONLY_HERE),
        (json!("https://youtu.be/"), ONLY_HERE),
        (json!("https://youtu.be"), ONLY_HERE),
    ] {
        let revision = ada.submission(&id).await.ok(200)["revision"].clone();
        let body = json!({ "revision": revision, "videoUrl": url });
        let answer = ada.edit(&id, body.clone()).await;
        let seen = (
            is_allowed(&document, "UpdateSubmission", &body),
            answer.status == 200,
        );
        assert_eq!(seen, expected, "{url}: {}", answer.body);
        assert!(seen.1 || answer.status == 400, "{url}");
    }
}

#[tokio::test]
async fn the_document_refuses_the_passwords_and_tokens_that_the_service_refuses_for_their_form() {
    let app =
        TestApp::start_with(|config| config.rate_limits = "off".parse().expect("limits")).await;
    let document = document();
    let words = |length: usize| {
        "correct horse battery staple "
            .chars()
            .cycle()
            .take(length)
            .collect::<String>()
    };
    // Each is one character when it is composed.
    let accents = |count: usize| "e\u{323}\u{302}a\u{30a}u\u{308}\u{304}".repeat(count);
    for (number, (password, expected)) in [
        (json!(words(8)), TAKEN),
        (json!(words(128)), TAKEN),
        (json!(accents(40)), TAKEN),
        (json!("パスワードの長い文"), TAKEN),
        (json!(words(7)), REFUSED),
        (json!(""), REFUSED),
        (json!(words(513)), REFUSED),
        (json!("correct horse\u{0}battery"), REFUSED),
        (json!(null), REFUSED),
        (json!(words(129)), ONLY_HERE),
        (json!(accents(2)), ONLY_HERE),
        (json!("password"), ONLY_HERE),
        (json!("qwertyuiop"), ONLY_HERE),
        (json!("runner-13"), ONLY_HERE),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({ "username": format!("runner-{number}"), "password": password });
        let answer = app.visitor().post("/auth/register", body.clone()).await;
        let seen = (
            is_allowed(&document, "Credentials", &body),
            answer.status == 201,
        );
        assert_eq!(seen, expected, "{password}: {}", answer.body);
        assert!(seen.1 || answer.status == 400, "{password}");
    }
    for (token, expected) in [
        (json!("rt_AQEBAQEBAQEBAQ"), TAKEN),
        (json!(""), TAKEN),
        (json!("r".repeat(256)), TAKEN),
        (json!("r".repeat(257)), REFUSED),
        (json!("rt_\u{0}"), REFUSED),
        (json!(null), REFUSED),
    ] {
        let body = json!({ "refreshToken": token });
        for (schema, path) in [("Refresh", "/auth/refresh"), ("Logout", "/auth/logout")] {
            let answer = app.visitor().post(path, body.clone()).await;
            // The token is none of ours. A refresh answers 401. A logout has nothing to do, and answers 204.
            let is_taken = [401, 204].contains(&answer.status.as_u16());
            let seen = (is_allowed(&document, schema, &body), is_taken);
            assert_eq!(seen, expected, "{path} {token}: {}", answer.body);
            assert!(seen.1 || answer.status == 400, "{path} {token}");
        }
    }
}

#[tokio::test]
async fn the_root_leads_to_the_documentation() {
    let app = TestApp::start().await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    for path in ["", "/docs/"] {
        let asked = client.get(format!("{}{path}", app.base)).send().await;
        let answer = asked.expect("an answer");
        assert!(answer.status().is_redirection(), "{}", answer.status());
        assert_eq!(answer.headers()["location"], "/docs");
    }
    let docs = app.visitor().get("/").await;
    assert_eq!(docs.headers["content-type"], "text/html; charset=utf-8");
    let page = docs.ok(200);
    assert!(
        page.as_str()
            .is_some_and(|page| page.contains("SwaggerUIBundle("))
    );
    // The service changes parts of poem-openapi's page. Those parts must still be there.
    for ours in [
        "<!doctype html>",
        "<title>SpeedCoding API</title>",
        "defaultModelsExpandDepth: 0",
    ] {
        assert!(
            page.as_str().is_some_and(|page| page.contains(ours)),
            "{ours}"
        );
    }
}

#[tokio::test]
async fn the_documentation_loads_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    let page = app.visitor().get("/docs").await.ok(200);
    let page = page.as_str().expect("HTML");
    for (_, operation) in operations(&document()) {
        let id = text(operation, "/operationId");
        assert!(
            page.contains(&format!("\"operationId\": \"{id}\"")),
            "{id} is shown"
        );
    }
    assert!(
        page.contains("\"additionalProperties\": false"),
        "the page shows what is enforced"
    );
    for reference in ["src=", "href=", "@import", "url("] {
        for (at, _) in page.match_indices(reference) {
            let target: String = page[at + reference.len()..].chars().take(80).collect();
            let target = target.trim_start_matches(['"', '\'', '\\', '`', ' ', '(']);
            let target = target.strip_prefix("url(").unwrap_or(target);
            assert!(
                !["http:", "https:", "//"]
                    .iter()
                    .any(|far| target.starts_with(far)),
                "{reference}{target}"
            );
        }
    }
}

#[tokio::test]
async fn the_service_says_that_it_lives_and_is_ready() {
    let app = TestApp::start().await;
    assert_eq!(
        app.visitor().get("/health/live").await.ok(200)["status"],
        "live"
    );
    assert_eq!(
        app.visitor().get("/health/ready").await.ok(200)["status"],
        "ready"
    );
}

#[tokio::test]
async fn the_document_is_packed_for_whoever_reads_that() {
    let app = TestApp::start().await;
    let get = async |accepted: &str| {
        let request = app.visitor().request(Method::GET, "/openapi.json");
        let request = request.header(header::ACCEPT_ENCODING, accepted);
        let answer = request.send().await.expect("an answer");
        let coding = answer.headers().get(header::CONTENT_ENCODING).cloned();
        (coding, answer.bytes().await.expect("a body"))
    };
    let (coding, plain) = get("br, gzip;q=0, *;q=0.1").await;
    assert_eq!(coding, None);
    for accepted in ["gzip", "deflate, GZIP, br, zstd"] {
        let (coding, packed) = get(accepted).await;
        assert_eq!(coding.expect("a coding"), "gzip");
        assert!(packed.len() * 4 < plain.len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*packed)
            .read_to_end(&mut unpacked)
            .expect("gzip");
        assert!(unpacked == plain);
    }
}

#[tokio::test]
async fn every_answer_bears_an_id_of_its_own() {
    let app = TestApp::start().await;
    let mut ids = std::collections::BTreeSet::new();
    for path in [
        "/health/live",
        "/docs",
        "/openapi.json",
        "/auth/me",
        "/nope",
        "/auth/me",
    ] {
        let answer = app.visitor().get(path).await;
        ids.insert(
            answer.headers["x-request-id"]
                .to_str()
                .expect("text")
                .to_owned(),
        );
    }
    assert_eq!(ids.len(), 6);
}

/// Functions in PostgreSQL refuse with a status and a code: `private.refuse(409, 'session_expired', …)`.
#[test]
fn every_code_that_the_database_refuses_with_is_listed() {
    let mut found = 0;
    for file in std::fs::read_dir("sql/functions").expect("sql/functions") {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        let calls = ["private.refuse(", "private.refusal("];
        for call in calls.iter().flat_map(|call| text.split(call).skip(1)) {
            let mut arguments = call.split(',');
            let status: Option<u16> = arguments
                .next()
                .and_then(|status| status.trim().parse().ok());
            // Other places define or explain these functions.
            let (Some(status), Some(code)) = (status, arguments.next()) else {
                continue;
            };
            // The code may be a choice: `case when … then 'one_code' else 'another_code' end`.
            for code in code.split('\'').filter(|word| word.contains('_')) {
                found += 1;
                assert!(
                    speedcoding::openapi::codes::CODES
                        .iter()
                        .any(|known| known.name == code && known.status == status),
                    "{}: {status} {code}",
                    path.display()
                );
            }
        }
    }
    assert!(found >= 40, "{found}");
}

#[test]
fn the_page_on_configuration_and_the_example_name_every_setting() {
    let page = std::fs::read_to_string("docs/configuration.md").expect("docs/configuration.md");
    let example = std::fs::read_to_string(".env.example").expect(".env.example");
    let names = setting_names();
    assert!(names.contains(&"DATABASE_URL".to_owned()));
    for name in names {
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/configuration.md, under Settings: {name}"
        );
        assert!(
            example
                .lines()
                .any(|line| line.starts_with(&format!("#{name}="))),
            ".env.example: {name}"
        );
    }
}

/// The pages that people read.
fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir("docs").expect("docs");
    let docs = docs.map(|file| file.expect("a file").path());
    let docs = docs.filter(|file| file.is_file());
    let top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    docs.chain(top.map(PathBuf::from)).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            heading
                .chars()
                .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading_in_it() {
    let mut followed = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().expect("a folder").join(file),
            };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let target = std::fs::read_to_string(&target).expect("a page");
                assert!(
                    anchors(&target).iter().any(|anchor| anchor == heading),
                    "{}: {link}",
                    page.display()
                );
            }
            followed += 1;
        }
    }
    assert!(followed >= 20, "{followed}");
}

#[test]
fn the_readme_is_read_in_one_sitting() {
    let readme = std::fs::read_to_string("README.md").expect("README.md");
    assert!(readme.lines().count() <= 200);
}
