//! The findings of `speedcoding doctor`, for people and as JSON.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

/// The maximum difference of two clocks. If they differ by more, tokens expire early or come from the future.
const MOST_SKEW: Duration = Duration::from_secs(30);

/// What to do about clocks that differ.
pub const NTP: &str =
    "synchronise both by NTP; otherwise tokens expire early or are refused as from the future";

/// The result of one check.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    pub status: Status,
    /// The finding.
    pub found: String,
    /// What to do, if anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<String>,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything is as it should be.
    Ok,
    /// Something does not exist or was not checked, and is not needed.
    Note,
    /// Something works, and could be better.
    Warning,
    /// Something does not work, or is open although it should not be.
    Failure,
}

/// All findings.
#[derive(Debug, Default)]
pub struct Report(Vec<Finding>);

impl Report {
    /// Whether nothing fails.
    pub fn is_sound(&self) -> bool {
        let mut findings = self.0.iter();
        !findings.any(|finding| finding.status == Status::Failure)
    }

    /// As JSON: `{"sound": true, "findings": [{"check", "status", "found", "remedies"}]}`
    pub fn json(&self) -> String {
        format!(
            "{:#}",
            json!({ "sound": self.is_sound(), "findings": self.0 })
        )
    }

    /// Adds a finding that needs no action.
    pub fn add(&mut self, check: &'static str, status: Status, found: impl Into<String>) {
        self.advise(check, status, found, []);
    }

    /// Adds a finding and what to do.
    pub fn advise<const N: usize>(
        &mut self,
        check: &'static str,
        status: Status,
        found: impl Into<String>,
        remedies: [&str; N],
    ) {
        self.0.push(Finding {
            check,
            status,
            found: found.into(),
            remedies: remedies.map(str::to_owned).into(),
        });
    }

    /// Adds a finding that was made elsewhere.
    pub fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Adds a failure and what to do.
    pub fn fail<const N: usize>(
        &mut self,
        check: &'static str,
        found: impl Display,
        remedies: [&str; N],
    ) {
        self.advise(check, Status::Failure, found.to_string(), remedies);
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            let status = match finding.status {
                Status::Ok => "ok",
                Status::Note => "note",
                Status::Warning => "warning",
                Status::Failure => "FAILURE",
            };
            writeln!(f, "{status:<9}{:<17}{}", finding.check, finding.found)?;
            for remedy in &finding.remedies {
                writeln!(f, "{:<26}-> {remedy}", "")?;
            }
        }
        let failures = self
            .0
            .iter()
            .filter(|finding| finding.status == Status::Failure);
        match failures.count() {
            0 => write!(f, "Nothing fails."),
            1 => write!(f, "One point fails."),
            count => write!(f, "{count} points fail."),
        }
    }
}

/// Judges the difference between the time that another clock shows and this machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this machine's clock is what is judged"
)]
pub fn judge_skew(check: &'static str, whose: &str, shown: OffsetDateTime, report: &mut Report) {
    let skew = (OffsetDateTime::now_utc() - shown).unsigned_abs();
    let found = format!(
        "{whose} clock and this machine's differ by {:.1} s",
        skew.as_secs_f64()
    );
    if skew > MOST_SKEW {
        report.fail(check, found, [NTP]);
    } else {
        report.add(check, Status::Ok, found);
    }
}
