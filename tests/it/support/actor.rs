//! Users who make requests, and the answers that they get.

use std::{mem::discriminant, sync::LazyLock};

use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

/// A password that is not common.
pub const PASSWORD: &str = "correct horse battery staple";

/// The OpenAPI document's examples of problems.
static EXAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let yaml = speedcoding::app::openapi().expect("a document");
    let document: Value = serde_yaml_ng::from_str(&yaml).expect("YAML");
    let examples = document["components"]["examples"].as_object();
    let examples = examples.expect("examples").values();
    examples.map(|example| example["value"].clone()).collect()
});

/// A user who makes requests, with an access token after a sign-in.
#[derive(Clone)]
pub struct Actor {
    client: Client,
    base: String,
    pub token: Option<String>,
    pub id: String,
}

/// An answer: JSON, or nothing.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Actor {
    pub fn new(base: &str) -> Self {
        let client = Client::builder().no_proxy().build().expect("a client");
        Actor {
            client,
            base: base.to_owned(),
            token: None,
            id: String::new(),
        }
    }

    /// Registers, which also signs in.
    pub async fn register(self, username: &str) -> Self {
        let tokens = self.register_with(username, PASSWORD).await.ok(201);
        self.with_tokens(&tokens)
    }

    /// Tries to register.
    pub async fn register_with(&self, username: &str, password: &str) -> Answer {
        let credentials = json!({ "username": username, "password": password });
        self.post("/auth/register", credentials).await
    }

    /// Tries to log in.
    pub async fn log_in(&self, username: &str, password: &str) -> Answer {
        let credentials = json!({ "username": username, "password": password });
        self.post("/auth/login", credentials).await
    }

    /// The same user with the tokens of an answer.
    pub fn with_tokens(self, tokens: &Value) -> Self {
        Actor {
            token: Some(text(tokens, "/accessToken")),
            id: text(tokens, "/user/id"),
            ..self
        }
    }

    /// The same user with any other token.
    pub fn with_token(self, token: impl Into<String>) -> Self {
        Actor {
            token: Some(token.into()),
            ..self
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// A request that a story changes and then sends with `answer`.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let path = if path.starts_with("/health")
            || path == "/"
            || path.starts_with("/docs")
            || path.starts_with("/openapi")
            || path.starts_with("/.well-known")
            || path.starts_with("/rest/v1")
        {
            path.to_owned()
        } else {
            format!("/api/v1{path}")
        };
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn change_password(&self, current: &str, new: &str) -> Answer {
        let body = json!({ "currentPassword": current, "newPassword": new });
        self.post("/auth/password", body).await
    }

    /// Erases the account.
    pub async fn erase(&self, password: &str) -> Answer {
        let body = json!({ "password": password });
        self.send(Method::DELETE, "/auth/me", Some(body)).await
    }

    /// Starts a session and returns its id.
    pub async fn start(&self, challenge: &str) -> String {
        let body = json!({ "techStack": "Rust, Postgres", "challenge": challenge });
        text(&self.start_with(body).await.ok(201), "/id")
    }

    pub async fn start_with(&self, body: Value) -> Answer {
        self.post("/sessions/start", body).await
    }

    pub async fn session(&self, id: &str) -> Answer {
        self.get(&format!("/sessions/{id}")).await
    }

    pub async fn verify(&self, session: &str, number: i64) -> Answer {
        let body = json!({ "sessionId": session, "milestoneNumber": number });
        self.post("/milestones/verify", body).await
    }

    /// The input of a milestone that takes an answer.
    pub async fn input(&self, session: &str, number: i64) -> Answer {
        self.get(&format!("/sessions/{session}/milestones/{number}/input"))
            .await
    }

    /// Verifies a milestone by an answer.
    pub async fn solve(&self, session: &str, number: i64, answer: &str) -> Answer {
        let body = json!({ "sessionId": session, "milestoneNumber": number, "answer": answer });
        self.post("/milestones/verify", body).await
    }

    /// Gives a verifier's verdict: `pass`, `fail` or `error`.
    pub async fn attest(&self, session: &str, number: i64, verdict: &str) -> Answer {
        let body = json!({
            "sessionId": session,
            "milestoneNumber": number,
            "verdict": verdict,
            "evidence": "log of 2026",
            "checkerVersion": "1.4.0",
        });
        self.post("/milestones/attest", body).await
    }

    pub async fn end(&self, session: &str) -> Answer {
        let video = json!("https://youtu.be/abc");
        self.end_with(session, json!(["poem", "tokio"]), video)
            .await
    }

    pub async fn end_with(&self, session: &str, packages: Value, video_url: Value) -> Answer {
        let body = json!({ "sessionId": session, "packages": packages, "videoUrl": video_url });
        self.post("/sessions/end", body).await
    }

    /// Completes a run of `slack-clone`. Returns the ended session.
    pub async fn complete_run(&self) -> Value {
        let session = self.start("slack-clone").await;
        for number in 1..=7 {
            self.verify(&session, number).await.ok(200);
        }
        self.end(&session).await.ok(200)
    }

    /// Completes a run of `slack-clone`, which hands it in. Returns the submission's id.
    pub async fn hand_in(&self) -> String {
        text(&self.complete_run().await, "/submission/id")
    }

    pub async fn submission(&self, id: &str) -> Answer {
        self.get(&format!("/submissions/{id}")).await
    }

    /// Edits one of the user's own submissions.
    pub async fn edit(&self, submission: &str, body: Value) -> Answer {
        self.patch(&format!("/submissions/{submission}"), body)
            .await
    }

    /// Claims a submission for review.
    pub async fn claim(&self, submission: &str) -> Answer {
        let path = format!("/submissions/{submission}/claim");
        self.send(Method::POST, &path, None).await
    }

    /// Gives a claim back.
    pub async fn release(&self, submission: &str) -> Answer {
        self.delete(&format!("/submissions/{submission}/claim"))
            .await
    }

    /// Decides `APPROVED` or `REJECTED` about the revision that was seen.
    pub async fn review(&self, submission: &str, decision: &str, revision: i64) -> Answer {
        let body = json!({ "decision": decision, "revision": revision, "reason": "because" });
        self.post(&format!("/submissions/{submission}/review"), body)
            .await
    }

    pub async fn reopen(&self, submission: &str) -> Answer {
        let body = json!({ "reason": "once more" });
        self.post(&format!("/submissions/{submission}/reopen"), body)
            .await
    }
}

/// Sends a request and reads its answer.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("a body");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer {
        status,
        headers,
        body,
    }
}

impl Answer {
    /// The body of an answer with this status.
    #[track_caller]
    pub fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        self.body
    }

    /// The problem (RFC 9457) of an answer with this status and code. It must have every member that the document's
    /// example has.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status.as_u16(), self.body["code"].as_str()),
            (status, Some(code)),
            "{:#}",
            self.body
        );
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], format!("urn:speedcoding:problem:{code}"));
        assert_eq!(
            self.body["requestId"].as_str(),
            self.headers["x-request-id"].to_str().ok()
        );
        assert!(!text(&self.body, "/title").is_empty() && !text(&self.body, "/detail").is_empty());
        assert_eq!(
            status == 401,
            self.headers.contains_key("www-authenticate"),
            "401 comes with a challenge"
        );
        assert_eq!(
            status == 503 || status == 429,
            self.headers.contains_key("retry-after")
        );
        // There is no example if no operation answers with this code.
        let example = EXAMPLES.iter().find(|example| example["code"] == code);
        for (name, shown) in example.and_then(Value::as_object).into_iter().flatten() {
            let told = &self.body[name];
            assert_eq!(discriminant(told), discriminant(shown), "{name}: {told}");
            assert!(name != "title" || told == shown, "{told}");
        }
        self.body
    }

    /// The fields that a 400 `invalid_request` names, each with its code.
    #[track_caller]
    pub fn faults(self) -> Vec<(String, String)> {
        let problem = self.problem(400, "invalid_request");
        let errors = problem["errors"].as_array().expect("errors").clone();
        errors
            .iter()
            .map(|error| (text(error, "/field"), text(error, "/code")))
            .collect()
    }
}

/// The text at a JSON pointer.
#[track_caller]
pub fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {pointer} of {value:#}"))
        .to_owned()
}
