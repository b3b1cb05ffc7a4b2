//! The requests of a client and their answers, which go into the history.

use std::time::Instant;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::Value;

use super::{
    super::history::{Kind, Outcome},
    Client, INSISTENCE, PATIENCE,
};

/// An answer.
pub struct Reply {
    pub outcome: Outcome,
    pub body: Value,
}

impl Client {
    /// Repeats a request until it has an answer, the client is stopped, or the client has tried for a minute.
    pub(super) async fn insist(
        &mut self,
        path: &str,
        sign_in: Option<&str>,
        body: &Value,
    ) -> Vec<Reply> {
        let began = Instant::now();
        loop {
            let replies = self.send_once_or_twice(path, sign_in, body).await;
            let is_answered = replies
                .iter()
                .any(|reply| !matches!(reply.outcome, Outcome::Unknown(_)));
            if is_answered || self.is_stopped() || began.elapsed() > INSISTENCE {
                return replies;
            }
            self.breathe().await;
        }
    }

    /// Sends a request once, or now and then to both replicas at the same moment.
    pub(super) async fn send_once_or_twice(
        &mut self,
        path: &str,
        sign_in: Option<&str>,
        body: &Value,
    ) -> Vec<Reply> {
        let token = sign_in.map(|id| self.known.sign_ins[id].access_token.clone());
        let token = token.as_deref();
        if self.home.is_none() && self.dice.below(100) < 10 {
            let ask = |replica| self.ask(replica, Method::POST, path, token, Some(body.clone()));
            let (first, second) = tokio::join!(ask(0), ask(1));
            return vec![first, second];
        }
        vec![
            self.send(Method::POST, path, token, Some(body.clone()))
                .await,
        ]
    }

    /// Sends a request to the client's replica, or to any replica if it has none.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Reply {
        let either = self.dice.below(self.bases.len() as u64) as usize;
        let replica = self.home.unwrap_or(either);
        self.ask(replica, method, path, token, body).await
    }

    async fn ask(
        &self,
        replica: usize,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Reply {
        let url = format!("{}/api/v1{path}", self.bases[replica]);
        let is_write = method != Method::GET;
        let mut what = format!("{method} {path}");
        let mut request = self.http.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
            what += &format!(" by sign-in {}", sign_in_of(token));
        }
        if let Some(body) = body {
            what += &format!(" {}", public(&body));
            request = request.json(&body);
        }
        let ticket = self.history.ask();
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
        };
        let (outcome, body) = match answer.await {
            Ok((status, text)) => {
                let body: Value = serde_json::from_str(&text).unwrap_or_default();
                let code = body["code"].as_str().unwrap_or_default().to_owned();
                let outcome = match status {
                    200..300 => Outcome::Acknowledged(status),
                    400..500 => Outcome::Refused(status, code),
                    _ => Outcome::Unknown(format!("{status} {code}")),
                };
                if status == 500 {
                    let request = body["requestId"].as_str().unwrap_or_default();
                    self.violate(
                        Kind::InternalError,
                        format!("replica {replica} {what}: request {request}"),
                    );
                }
                if let Some(id) = body["id"].as_str() {
                    what += &format!(" = {id}");
                }
                if let Some(token) = body["accessToken"].as_str() {
                    what += &format!(" = sign-in {}", sign_in_of(token));
                }
                (outcome, body)
            }
            Err(error) => {
                if error.is_timeout() {
                    self.violate(
                        Kind::Hung,
                        format!(
                            "replica {replica} {what}: no answer in {} s",
                            PATIENCE.as_secs()
                        ),
                    );
                }
                let why = if error.is_connect() {
                    "no connection"
                } else {
                    "no answer"
                };
                (Outcome::Unknown(why.to_owned()), Value::Null)
            }
        };
        self.history.answer(
            ticket,
            &self.name,
            (replica, what, is_write),
            outcome.clone(),
        );
        Reply { outcome, body }
    }
}

/// The body without its secrets, for the history.
fn public(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(token) = body["refreshToken"].as_str() {
        let end = token.len().saturating_sub(8);
        body["refreshToken"] = format!("…{}", &token[end..]).into();
    }
    if body["password"].is_string() {
        body["password"] = "…".into();
    }
    body
}

/// The sign-in that an access token names.
pub fn sign_in_of(token: &str) -> String {
    let claims = token
        .split('.')
        .nth(1)
        .and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
    let claims: Value = claims
        .and_then(|claims| serde_json::from_slice(&claims).ok())
        .unwrap_or_default();
    claims["session_id"].as_str().unwrap_or_default().to_owned()
}
