//! What a client knows of its own sign-ins and runs. The client compares it with later answers of the service.

use std::{collections::BTreeMap, time::Instant};

use serde_json::Value;

/// Everything that was acknowledged to the client, and what else may have happened.
#[derive(Default)]
pub struct Known {
    pub user: String,
    /// By id.
    pub sign_ins: BTreeMap<String, SignIn>,
    /// By id.
    pub runs: BTreeMap<String, Run>,
    /// Further accounts that the client made: their names and ids.
    pub others: Vec<(String, String)>,
    /// The decisions of a moderator, by submission: the decision and the revision.
    pub decisions: BTreeMap<String, (String, i64)>,
    /// The numbers of starts and of logins that may have succeeded without an acknowledgement.
    pub unknown_starts: usize,
    pub unknown_logins: usize,
    pub(super) last_unknown_logout: Option<Instant>,
}

/// A sign-in, which is one device.
pub struct SignIn {
    pub access_token: String,
    pub refresh_token: String,
    pub(super) since: Instant,
    /// The number of refreshes that were acknowledged.
    pub rotations: i32,
    pub life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Alive,
    /// A request to end it was sent.
    Unsure,
    Ended,
}

/// A session, as far as the service has shown it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    pub start_time: String,
    pub tech_stack: String,
    pub status: String,
    pub end_time: Option<String>,
    pub total_ms: Option<i64>,
    /// The passed milestones: by number, the time when it was passed.
    pub milestones: BTreeMap<i64, String>,
    pub submission: Option<Submission>,
    /// A request to end it was sent.
    pub may_have_ended: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    pub id: String,
    pub revision: i64,
    pub status: String,
    /// The packages and the video.
    pub content: String,
}

impl Run {
    /// Reads a session from the service's answer.
    pub fn read(shown: &Value) -> Option<Self> {
        let text = |name: &str| shown[name].as_str().map(str::to_owned);
        let mut milestones = BTreeMap::new();
        for milestone in shown["milestones"].as_array()? {
            if milestone["passed"].as_bool()? {
                let passed_at = milestone["completedAt"].as_str()?.to_owned();
                milestones.insert(milestone["milestoneNumber"].as_i64()?, passed_at);
            }
        }
        Some(Run {
            start_time: text("startTime")?,
            tech_stack: text("techStack")?,
            status: text("status")?,
            end_time: text("endTime"),
            total_ms: shown["totalTimeMs"].as_i64(),
            milestones,
            submission: Submission::read(&shown["submission"]),
            may_have_ended: false,
        })
    }

    /// Describes a known fact that a later answer lacks or contradicts, if there is one.
    pub fn lost_in(&self, later: &Run) -> Option<String> {
        let lost = |what: &str, known: &dyn std::fmt::Debug, shown: &dyn std::fmt::Debug| {
            Some(format!("{what} was {known:?} and is {shown:?}"))
        };
        if (&self.start_time, &self.tech_stack) != (&later.start_time, &later.tech_stack) {
            return lost("the start", &self.start_time, &later.start_time);
        }
        for (number, at) in &self.milestones {
            if later.milestones.get(number) != Some(at) {
                return lost(
                    &format!("milestone {number}"),
                    at,
                    &later.milestones.get(number),
                );
            }
        }
        let end = |run: &Run| (run.status.clone(), run.end_time.clone(), run.total_ms);
        let may_change =
            self.status == "running" && (self.may_have_ended || later.status == "running");
        if end(self) != end(later) && !may_change {
            return lost("the end", &end(self), &end(later));
        }
        let submission = self.submission.as_ref()?;
        let Some(shown) = &later.submission else {
            return lost("the submission", submission, &later.submission);
        };
        submission
            .lost_in(shown)
            .then(|| lost("the submission", submission, shown))
            .flatten()
    }

    /// Adds the facts of a new answer.
    pub(super) fn learn(&mut self, shown: Run) {
        self.milestones.extend(shown.milestones);
        if shown.status != "running" {
            (self.status, self.end_time, self.total_ms) =
                (shown.status, shown.end_time, shown.total_ms);
        }
        if let Some(shown) = shown.submission {
            let is_newer = |known: &Submission| {
                known.revision < shown.revision
                    || known.revision == shown.revision && known.status == "PENDING"
            };
            if self.submission.as_ref().is_none_or(is_newer) {
                self.submission = Some(shown);
            }
        }
    }
}

impl Submission {
    pub fn read(shown: &Value) -> Option<Self> {
        Some(Submission {
            id: shown["id"].as_str()?.to_owned(),
            revision: shown["revision"].as_i64()?,
            status: shown["status"].as_str()?.to_owned(),
            content: content(&shown["packages"], &shown["videoUrl"]),
        })
    }

    /// Whether a later answer contradicts this one. Revisions only go up. The content of a revision stays, and so does
    /// a decision on it.
    fn lost_in(&self, later: &Submission) -> bool {
        let same = later.content == self.content
            && (self.status == "PENDING" || self.status == later.status);
        self.id != later.id
            || later.revision < self.revision
            || later.revision == self.revision && !same
            || self.status == "APPROVED" && later.status != "APPROVED"
    }
}

pub(super) fn content(packages: &Value, video: &Value) -> String {
    format!("{packages} {video}")
}
