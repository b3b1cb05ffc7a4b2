//! The clients that use the service while things break. Each client has an account of its own and does one thing after
//! another. It remembers what the service acknowledged, and notices a later answer that contradicts it.

mod known;
mod requests;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::history::{History, Kind, Outcome};
use known::{Known, SignIn, Submission, content};
pub use known::{Life, Run};
use requests::{Reply, sign_in_of};

const PASSWORD: &str = "correct horse battery staple";
/// The time after which a client gives up. The service itself gives up after thirty seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// The time during which a request without an answer may still be carried out.
const ECHO: Duration = Duration::from_secs(20);
/// The time during which a client repeats a request that got no answer.
const INSISTENCE: Duration = Duration::from_secs(60);
/// The age at which a client refreshes its access token. Access tokens last 15 minutes.
const TOKEN_AGE: Duration = Duration::from_secs(10 * 60);
pub const CHALLENGE: &str = "slack-clone";
const MILESTONES: i64 = 7;

/// A client of the service.
pub struct Client {
    pub name: String,
    http: reqwest::Client,
    history: Arc<History>,
    bases: Arc<[String]>,
    /// The replica to which it always sends its requests. None if it uses both.
    home: Option<usize>,
    dice: Dice,
    /// Set when the client has to stop.
    stop: Arc<AtomicBool>,
    pub known: Known,
    running: Option<String>,
}

impl Client {
    pub fn new(
        name: String,
        home: Option<usize>,
        dice: Dice,
        (history, bases, stop): (Arc<History>, Arc<[String]>, Arc<AtomicBool>),
    ) -> Self {
        Client {
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(PATIENCE)
                .build()
                .expect("a client"),
            name,
            history,
            bases,
            home,
            dice,
            stop,
            known: Known::default(),
            running: None,
        }
    }

    /// Makes the client's account, before anything is broken.
    pub async fn register(&mut self) {
        let reply = self.make_account(&self.name.clone()).await;
        self.known.user = reply.body["user"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.sign_in(&reply.body);
    }

    /// Does one thing after another, until the client has to stop.
    pub async fn run(mut self) -> Self {
        while !self.is_stopped() {
            self.act().await;
            let pause = 5 + self.dice.below(40);
            sleep(Duration::from_millis(pause)).await;
        }
        self
    }

    /// Decides on submissions, until the client has to stop.
    pub async fn moderate(mut self) -> Self {
        while !self.is_stopped() {
            self.review().await;
            sleep(Duration::from_millis(200)).await;
        }
        self
    }

    async fn act(&mut self) {
        let Some(sign_in) = self.choose_sign_in() else {
            return self.log_in().await;
        };
        if self.known.sign_ins[&sign_in].since.elapsed() > TOKEN_AGE {
            return self.refresh(&sign_in).await;
        }
        match self.dice.below(1000) {
            0..3 => self.invite().await,
            3..13 if self.living().len() < 6 => self.log_in().await,
            13..60 => self.refresh(&sign_in).await,
            60..75 => self.log_out(&sign_in).await,
            75..150 => self.look_back(&sign_in).await,
            150..220 => self.edit(&sign_in).await,
            220..235 => self.try_what_has_ended().await,
            _ => match self.running.clone() {
                Some(run) => self.go_on(&sign_in, &run).await,
                None => self.start(&sign_in).await,
            },
        }
    }

    async fn invite(&mut self) {
        let name = format!(
            "{}_{}",
            self.name,
            self.known.others.len() + self.known.unknown_logins
        );
        let reply = self.make_account(&name).await;
        match (&reply.outcome, reply.body["user"]["id"].as_str()) {
            (Outcome::Acknowledged(_), Some(id)) => self.known.others.push((name, id.to_owned())),
            // The next account gets another name.
            (Outcome::Unknown(_), _) => self.known.unknown_logins += 1,
            _ => self.wonder("a new name", &reply),
        }
    }

    async fn make_account(&mut self, name: &str) -> Reply {
        let body = json!({ "username": name, "password": PASSWORD });
        self.send(Method::POST, "/auth/register", None, Some(body))
            .await
    }

    async fn log_in(&mut self) {
        let body = json!({ "username": self.name, "password": PASSWORD });
        let reply = self
            .send(Method::POST, "/auth/login", None, Some(body))
            .await;
        match reply.outcome {
            Outcome::Acknowledged(_) => self.sign_in(&reply.body),
            Outcome::Unknown(_) => {
                self.known.unknown_logins += 1;
                self.breathe().await;
            }
            Outcome::Refused(..) => self.wonder("the right password", &reply),
        }
    }

    fn sign_in(&mut self, tokens: &Value) {
        let text = |name: &str| tokens[name].as_str().unwrap_or_default().to_owned();
        let access_token = text("accessToken");
        let is_haunted = self
            .known
            .last_unknown_logout
            .is_some_and(|at| at.elapsed() < ECHO);
        let sign_in = SignIn {
            refresh_token: text("refreshToken"),
            since: Instant::now(),
            rotations: 0,
            life: if is_haunted {
                Life::Unsure
            } else {
                Life::Alive
            },
            access_token,
        };
        let id = sign_in_of(&sign_in.access_token);
        if self.known.sign_ins.insert(id.clone(), sign_in).is_some() {
            self.violate(Kind::Doubled, format!("sign-in {id} was opened twice"));
        }
    }

    /// Redeems a refresh token. If both replicas are asked at once, both must give the same token.
    pub async fn refresh(&mut self, id: &str) {
        let token = self.known.sign_ins[id].refresh_token.clone();
        let body = json!({ "refreshToken": token });
        let replies = self.insist("/auth/refresh", None, &body).await;
        let mut successors = BTreeSet::new();
        for reply in &replies {
            match reply.outcome {
                Outcome::Acknowledged(_) => {
                    successors.insert(
                        reply.body["refreshToken"]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned(),
                    );
                    let access = reply.body["accessToken"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                    if let Some(sign_in) = self.known.sign_ins.get_mut(id) {
                        (sign_in.access_token, sign_in.since) = (access, Instant::now());
                    }
                }
                Outcome::Refused(401, _) => self.signed_out(id, reply),
                Outcome::Refused(..) => self.wonder("the newest refresh token", reply),
                Outcome::Unknown(_) => {}
            }
        }
        if successors.len() > 1 {
            self.violate(
                Kind::Doubled,
                format!("two successors of one refresh token of sign-in {id}"),
            );
        }
        if let (Some(successor), Some(sign_in)) =
            (successors.pop_first(), self.known.sign_ins.get_mut(id))
        {
            sign_in.refresh_token = successor;
            sign_in.rotations += 1;
        }
    }

    async fn log_out(&mut self, id: &str) {
        let is_sure = self.known.sign_ins[id].life == Life::Alive;
        let scope = match self.dice.below(10) {
            0 if is_sure => "others",
            1 if is_sure => "global",
            _ => "local",
        };
        let ends = |other: &String| match scope {
            "local" => other == id,
            "others" => other != id,
            _ => true,
        };
        let ended: Vec<_> = self.living().into_iter().filter(ends).collect();
        self.set_life(&ended, Life::Unsure);
        let token = self.known.sign_ins[id].refresh_token.clone();
        let body = json!({ "refreshToken": token, "scope": scope });
        let unanswered = self.history.now();
        let replies = self.insist("/auth/logout", None, &body).await;
        let echoes = self
            .history
            .between(unanswered, self.history.now(), |requests| {
                requests
                    .iter()
                    .any(|r| r.client == self.name && matches!(r.outcome, Outcome::Unknown(_)))
            });
        if echoes && scope != "local" {
            self.known.last_unknown_logout = Some(Instant::now());
        }
        for reply in &replies {
            match reply.outcome {
                Outcome::Acknowledged(_) => self.set_life(&ended, Life::Ended),
                Outcome::Refused(..) => self.wonder("a refresh token to log out with", reply),
                Outcome::Unknown(_) => {}
            }
        }
    }

    /// Checks that a sign-in that has ended stays refused.
    async fn try_what_has_ended(&mut self) {
        let ended: Vec<_> = self.sign_ins(Life::Ended);
        let Some(id) = self.dice.choose(&ended).cloned() else {
            return;
        };
        self.try_ended(&id).await;
    }

    pub async fn try_ended(&mut self, id: &str) {
        let (access, refresh) = {
            let sign_in = &self.known.sign_ins[id];
            (sign_in.access_token.clone(), sign_in.refresh_token.clone())
        };
        let body = json!({ "refreshToken": refresh });
        let refreshed = self
            .send(Method::POST, "/auth/refresh", None, Some(body))
            .await;
        let shown = self
            .send(Method::GET, "/auth/me", Some(&access), None)
            .await;
        for reply in [refreshed, shown] {
            if let Outcome::Acknowledged(_) = reply.outcome {
                self.violate(Kind::Revived, format!("sign-in {id} was ended and works"));
            }
        }
    }

    async fn start(&mut self, sign_in: &str) {
        let body = json!({ "challenge": CHALLENGE, "techStack": *self.dice.choose(&["Rust, Postgres", "Go", "Python"]).unwrap_or(&"Rust") });
        let replies = self
            .send_once_or_twice("/sessions/start", Some(sign_in), &body)
            .await;
        let mut started = Vec::new();
        for reply in &replies {
            match &reply.outcome {
                Outcome::Acknowledged(_) => started.extend(self.learn(&reply.body, false)),
                Outcome::Unknown(_) => self.known.unknown_starts += 1,
                Outcome::Refused(401, _) => self.signed_out(sign_in, reply),
                Outcome::Refused(_, code) if code == "session_already_running" => {
                    // This session was started without an acknowledgement, or at the same moment.
                    let id = reply.body["sessionId"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                    let known = self.known.runs.get(&id).map(|run| run.status.clone());
                    match known.as_deref() {
                        Some("running") => self.running = Some(id),
                        Some(_) => {
                            self.violate(Kind::Revived, format!("session {id} has ended and runs"))
                        }
                        None if self.known.unknown_starts > 0 => {
                            self.known.unknown_starts -= 1;
                            self.running = Some(id);
                        }
                        // Two starts were sent at once. The other reply has the answer of the other start.
                        None if replies.len() > 1 => {}
                        None => self.violate(
                            Kind::Doubled,
                            format!("session {id} runs, but no client started it"),
                        ),
                    }
                }
                Outcome::Refused(..) => self.wonder("a start", reply),
            }
        }
        if started.len() > 1 {
            self.violate(
                Kind::Doubled,
                format!("two sessions run at once: {started:?}"),
            );
        }
        if let Some(id) = started.pop() {
            self.running = Some(id);
        }
        if replies
            .iter()
            .all(|reply| matches!(reply.outcome, Outcome::Unknown(_)))
        {
            self.breathe().await;
        }
    }

    /// Verifies the next milestone, or ends the session.
    async fn go_on(&mut self, sign_in: &str, id: &str) {
        let Some(run) = self.known.runs.get(id) else {
            // The session was started without an acknowledgement.
            return self.look_at(sign_in, id).await;
        };
        if run.status != "running" {
            self.running = None;
            return;
        }
        let passed = run
            .milestones
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        match self.dice.below(100) {
            _ if passed == MILESTONES => self.end(sign_in, id, "/sessions/end").await,
            0..2 => self.end(sign_in, id, "/sessions/end").await,
            2..5 => self.end(sign_in, id, "/sessions/abandon").await,
            // Verifying a passed milestone again gets the first answer.
            5..10 if passed > 0 => self.verify(sign_in, id, passed).await,
            _ => self.verify(sign_in, id, passed + 1).await,
        }
    }

    async fn verify(&mut self, sign_in: &str, id: &str, number: i64) {
        let body = json!({ "sessionId": id, "milestoneNumber": number });
        let replies = self
            .send_once_or_twice("/milestones/verify", Some(sign_in), &body)
            .await;
        for reply in &replies {
            match &reply.outcome {
                Outcome::Acknowledged(_) => {
                    let at = reply.body["completedAt"]
                        .as_str()
                        .unwrap_or("never")
                        .to_owned();
                    let run = self.known.runs.get_mut(id);
                    let known = run.and_then(|run| run.milestones.insert(number, at.clone()));
                    if let Some(known) = known.filter(|known| *known != at) {
                        self.violate(
                            Kind::Lost,
                            format!("milestone {number} of session {id} was {known} and is {at}"),
                        );
                    }
                }
                Outcome::Refused(401, _) => self.signed_out(sign_in, reply),
                // An earlier end was carried out without an acknowledgement.
                Outcome::Refused(409, _) if self.known.runs[id].may_have_ended => {
                    self.look_at(sign_in, id).await
                }
                Outcome::Refused(..) => self.wonder("the next milestone", reply),
                Outcome::Unknown(_) => self.breathe().await,
            }
        }
    }

    /// Ends or abandons a session, and repeats the request until it has an answer. A retry gets the first answer.
    async fn end(&mut self, sign_in: &str, id: &str, path: &str) {
        if let Some(run) = self.known.runs.get_mut(id) {
            run.may_have_ended = true;
        }
        let mut body = json!({ "sessionId": id });
        if path.ends_with("end") {
            body["packages"] = json!(["poem", "tokio"]);
            body["videoUrl"] = self.video().into();
        }
        let replies = self.insist(path, Some(sign_in), &body).await;
        for reply in &replies {
            match &reply.outcome {
                Outcome::Acknowledged(_) => {
                    if self.learn(&reply.body, true).is_some() {
                        self.running = None;
                    }
                }
                Outcome::Refused(401, _) => self.signed_out(sign_in, reply),
                Outcome::Refused(..) => self.look_at(sign_in, id).await,
                Outcome::Unknown(_) => {}
            }
        }
    }

    async fn edit(&mut self, sign_in: &str) {
        let is_open = |run: &Run| {
            run.submission
                .as_ref()
                .is_some_and(|handed_in| handed_in.status != "APPROVED")
        };
        let open: Vec<_> = self
            .known
            .runs
            .iter()
            .filter(|(_, run)| is_open(run))
            .map(|(id, _)| id.clone())
            .collect();
        let Some(run) = open.last().cloned() else {
            return;
        };
        let Some(submission) = self.known.runs[&run].submission.clone() else {
            return;
        };
        let body = json!({ "revision": submission.revision, "packages": ["poem"], "videoUrl": self.video() });
        let path = format!("/submissions/{}", submission.id);
        let token = self.known.sign_ins[sign_in].access_token.clone();
        let reply = self
            .send(Method::PATCH, &path, Some(&token), Some(body.clone()))
            .await;
        match (&reply.outcome, Submission::read(&reply.body)) {
            (Outcome::Acknowledged(_), Some(shown)) => {
                let sent = content(&body["packages"], &body["videoUrl"]);
                if shown.content != sent || shown.revision <= submission.revision {
                    self.violate(
                        Kind::Lost,
                        format!("the edit {sent} of {submission:?} was acknowledged as {shown:?}"),
                    );
                }
                if let Some(run) = self.known.runs.get_mut(&run) {
                    run.submission = Some(shown);
                }
            }
            (Outcome::Refused(401, _), _) => self.signed_out(sign_in, &reply),
            // A moderator was faster, or an earlier edit without an answer was carried out.
            (Outcome::Refused(409, _), _) => self.look_at(sign_in, &run).await,
            (Outcome::Unknown(_), _) => self.breathe().await,
            _ => self.wonder("an edit", &reply),
        }
    }

    /// Reads one of the client's runs again.
    async fn look_back(&mut self, sign_in: &str) {
        let runs: Vec<_> = self.known.runs.keys().cloned().collect();
        // Mostly a recent one.
        let recent = &runs[runs.len().saturating_sub(1 + self.dice.below(20) as usize)..];
        if let Some(id) = self.dice.choose(recent).cloned() {
            self.look_at(sign_in, &id).await;
        }
    }

    pub async fn look_at(&mut self, sign_in: &str, id: &str) {
        let token = self.known.sign_ins[sign_in].access_token.clone();
        let reply = self
            .send(Method::GET, &format!("/sessions/{id}"), Some(&token), None)
            .await;
        match reply.outcome {
            Outcome::Acknowledged(_) => {
                self.learn(&reply.body, false);
            }
            Outcome::Refused(401, _) => self.signed_out(sign_in, &reply),
            Outcome::Refused(..) => {
                self.violate(Kind::Lost, format!("session {id}: {:?}", reply.outcome))
            }
            Outcome::Unknown(_) => self.breathe().await,
        }
    }

    async fn review(&mut self) {
        let Some(sign_in) = self.choose_sign_in() else {
            return self.log_in().await;
        };
        if self.known.sign_ins[&sign_in].since.elapsed() > TOKEN_AGE {
            return self.refresh(&sign_in).await;
        }
        let token = self.known.sign_ins[&sign_in].access_token.clone();
        let queue = self
            .send(
                Method::GET,
                "/submissions?status=PENDING&limit=20",
                Some(&token),
                None,
            )
            .await;
        match queue.outcome {
            Outcome::Refused(401, _) => return self.signed_out(&sign_in, &queue),
            Outcome::Refused(..) => return self.wonder("a moderator's look at the queue", &queue),
            _ => {}
        }
        let empty = Vec::new();
        for handed_in in queue.body["items"].as_array().unwrap_or(&empty) {
            let Some(submission) = Submission::read(handed_in) else {
                continue;
            };
            let decision = *self
                .dice
                .choose(&["APPROVED", "REJECTED"])
                .unwrap_or(&"APPROVED");
            let body =
                json!({ "decision": decision, "reason": "seen", "revision": submission.revision });
            let path = format!("/submissions/{}/review", submission.id);
            let reply = self
                .send(Method::POST, &path, Some(&token), Some(body))
                .await;
            match reply.outcome {
                Outcome::Acknowledged(_) => {
                    self.known
                        .decisions
                        .insert(submission.id, (decision.to_owned(), submission.revision));
                }
                // The runner has changed the submission meanwhile, or an earlier decision was made without an
                // acknowledgement.
                Outcome::Refused(409, _) => {}
                Outcome::Refused(401, _) => return self.signed_out(&sign_in, &reply),
                Outcome::Refused(..) => self.wonder("a decision", &reply),
                Outcome::Unknown(_) => self.breathe().await,
            }
        }
    }

    /// Compares a session that the service shows with the known one, and adds new facts. Returns the session's id.
    fn learn(&mut self, shown: &Value, has_ended: bool) -> Option<String> {
        let id = shown["id"].as_str()?.to_owned();
        let Some(run) = Run::read(shown) else {
            self.violate(Kind::Lost, format!("this is no session: {shown}"));
            return None;
        };
        if has_ended && run.status == "running" {
            self.violate(
                Kind::Lost,
                format!("session {id} was ended, it was acknowledged, and it runs"),
            );
        }
        if let Some(known) = self.known.runs.get(&id)
            && let Some(lost) = known.lost_in(&run)
        {
            self.violate(Kind::Lost, format!("session {id}: {lost}"));
        }
        self.known
            .runs
            .entry(id.clone())
            .or_insert_with(|| run.clone())
            .learn(run);
        Some(id)
    }

    /// Notes that a sign-in has ended. Some client must have tried to end it.
    fn signed_out(&mut self, id: &str, reply: &Reply) {
        let Some(sign_in) = self.known.sign_ins.get_mut(id) else {
            return;
        };
        let life = std::mem::replace(&mut sign_in.life, Life::Ended);
        if life == Life::Alive {
            self.violate(
                Kind::Lost,
                format!(
                    "sign-in {id} has ended, but no client ended it: {:?}",
                    reply.outcome
                ),
            );
        }
    }

    fn wonder(&self, what: &str, reply: &Reply) {
        self.violate(
            Kind::Refused,
            format!("{what}: {:?} {}", reply.outcome, reply.body["detail"]),
        );
    }

    fn violate(&self, kind: Kind, text: String) {
        self.history.violate(kind, Some(&self.name), text);
    }

    /// A sign-in that may still count, with an access token that is fresh enough.
    fn choose_sign_in(&mut self) -> Option<String> {
        let living = self.living();
        self.dice.choose(&living).cloned()
    }

    fn living(&self) -> Vec<String> {
        let mut living = self.sign_ins(Life::Alive);
        living.extend(self.sign_ins(Life::Unsure));
        living
    }

    pub fn sign_ins(&self, life: Life) -> Vec<String> {
        let sign_ins = self
            .known
            .sign_ins
            .iter()
            .filter(|(_, sign_in)| sign_in.life == life);
        sign_ins.map(|(id, _)| id.clone()).collect()
    }

    fn set_life(&mut self, ids: &[String], life: Life) {
        for id in ids {
            if let Some(sign_in) = self.known.sign_ins.get_mut(id) {
                sign_in.life = life;
            }
        }
    }

    fn video(&mut self) -> String {
        format!("https://youtu.be/{:011}", self.dice.below(99_999_999_999))
    }

    /// From now on the client uses this replica only.
    pub fn go_to(&mut self, replica: usize) {
        self.home = Some(replica);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits a moment after a failure, as clients do.
    async fn breathe(&mut self) {
        let pause = 50 + self.dice.below(100);
        sleep(Duration::from_millis(pause)).await;
    }
}

/// Random numbers, the same for the same seed (SplitMix64).
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % count
    }

    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let count = from.len() as u64;
        (count > 0).then(|| &from[self.below(count) as usize])
    }
}
