//! Records requests and answers on one monotonic clock, and the violations that were found.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// After this time without a failure the service counts as back.
const QUIET: Duration = Duration::from_millis(1500);
/// A request that has waited this long may be about to fail.
const PATIENT: Duration = Duration::from_secs(3);

/// All that has happened so far.
pub struct History {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The requests that have ended, in the order in which they ended.
    requests: Vec<Request>,
    /// The requests under way: by ticket, the time when it was sent.
    pending: BTreeMap<u64, Duration>,
    tickets: u64,
    violations: Vec<Violation>,
}

/// A request that has ended, with or without an answer.
pub struct Request {
    pub client: String,
    pub replica: usize,
    pub what: String,
    /// Whether its acknowledgement proves that the database can be written to.
    pub is_write: bool,
    pub begun: Duration,
    pub ended: Duration,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// 2xx: the service has done it, and it must stay done.
    Acknowledged(u16),
    /// 4xx: the service has not done it, and never will.
    Refused(u16, String),
    /// 5xx, or no answer: the service may have done it, or may still do it.
    Unknown(String),
}

/// An event that must never happen.
#[derive(Clone)]
pub struct Violation {
    pub kind: Kind,
    pub at: Duration,
    pub client: Option<String>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something acknowledged is missing, or has changed.
    Lost,
    /// The database holds more than was asked for, or contradicts itself.
    Doubled,
    /// Something that has ended counts again.
    Revived,
    /// An answer with status 500.
    InternalError,
    /// A refusal without a reason.
    Refused,
    /// A request had no answer for longer than any request may take.
    Hung,
    /// The service was back too late after a fault was over.
    Late,
    /// A replica called itself ready while nothing could be written.
    FalselyReady,
}

/// A request that is under way.
pub struct Ticket {
    number: u64,
    begun: Duration,
}

/// The state of the service's recovery since a fault was over.
pub struct Recovery {
    /// The time when both replicas had acknowledged a write that was sent since then, and when the last failed request
    /// that was sent since then had ended. None until both replicas have acknowledged a write.
    pub back: Option<Duration>,
    /// Whether no request has failed lately, and none has waited for long.
    pub is_calm: bool,
}

impl History {
    pub fn begin() -> Self {
        History {
            began: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// The time since the beginning.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn ask(&self) -> Ticket {
        let mut state = self.state();
        let (number, begun) = (state.tickets, self.now());
        state.tickets += 1;
        state.pending.insert(number, begun);
        Ticket { number, begun }
    }

    pub fn answer(
        &self,
        ticket: Ticket,
        client: &str,
        (replica, what, is_write): (usize, String, bool),
        outcome: Outcome,
    ) {
        let mut state = self.state();
        state.pending.remove(&ticket.number);
        let ended = self.now();
        state.requests.push(Request {
            client: client.to_owned(),
            replica,
            what,
            is_write,
            begun: ticket.begun,
            ended,
            outcome,
        });
    }

    pub fn violate(&self, kind: Kind, client: Option<&str>, text: String) {
        self.violate_at(self.now(), kind, client, text);
    }

    /// Notes a violation that was noticed only later.
    pub fn violate_at(&self, at: Duration, kind: Kind, client: Option<&str>, text: String) {
        let violation = Violation {
            kind,
            at,
            client: client.map(str::to_owned),
            text,
        };
        eprintln!("{violation}");
        self.state().violations.push(violation);
    }

    /// The recovery of this number of replicas, by the requests that were sent in this time.
    pub fn recovery(&self, since: Duration, until: Duration, replicas: usize) -> Recovery {
        let state = self.state();
        let mut first_writes = vec![None; replicas];
        let mut last_failure = None;
        let later = state
            .requests
            .iter()
            .rev()
            .take_while(|request| request.ended >= since);
        for request in later.filter(|request| (since..until).contains(&request.begun)) {
            match request.outcome {
                Outcome::Unknown(_) => last_failure = last_failure.max(Some(request.ended)),
                Outcome::Acknowledged(_) if request.is_write => {
                    first_writes[request.replica] = Some(request.ended);
                }
                _ => {}
            }
        }
        let (quiet, patient) = (
            self.now().saturating_sub(QUIET),
            self.now().saturating_sub(PATIENT),
        );
        let hangs = state.pending.values().any(|begun| *begun < patient);
        let first_write = first_writes.into_iter().collect::<Option<Vec<_>>>();
        let first_write = first_write.and_then(|times| times.into_iter().max());
        Recovery {
            back: first_write.map(|at| at.max(last_failure.unwrap_or_default()) - since),
            is_calm: !hangs && since < quiet && last_failure.is_none_or(|at| at < quiet),
        }
    }

    /// The requests that were sent in this time and have ended.
    pub fn between<T>(
        &self,
        from: Duration,
        to: Duration,
        tell: impl FnOnce(Vec<&Request>) -> T,
    ) -> T {
        let state = self.state();
        let within = |request: &&Request| (from..to).contains(&request.begun);
        tell(state.requests.iter().filter(within).collect())
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.state().violations.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the history")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.as_deref().unwrap_or("-");
        write!(
            f,
            "{:9.3} {client} VIOLATION {:?}: {}",
            self.at.as_secs_f64(),
            self.kind,
            self.text
        )
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begun, ended) = (self.begun.as_secs_f64(), self.ended.as_secs_f64());
        let Request {
            client,
            replica,
            what,
            outcome,
            ..
        } = self;
        write!(
            f,
            "{begun:9.3} {ended:9.3} {client} replica {replica} {what}: {outcome:?}"
        )
    }
}
