//! How much one client may ask for and hold, and who the client is: by network, user and sign-in.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    hash::{BuildHasher, Hash, RandomState},
    io,
    marker::PhantomData,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use aws_lc_rs::hmac;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::StateStore,
};
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use ipnet::IpNet;
use poem::{
    Body, Endpoint, IntoResponse, Request, Response, Result,
    http::{HeaderMap, HeaderName, HeaderValue},
    web::RemoteAddr,
};
use uuid::Uuid;

use crate::{
    app::State,
    auth::{Auth, bearer, token::Claims},
    config::Config,
    problem::Problem,
    telemetry,
};

/// How the limits of a request stand (draft-ietf-httpapi-ratelimit-headers-10).
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What these limits are (draft-ietf-httpapi-ratelimit-headers-10).
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limits by name, and what they are unless RATE_LIMITS says otherwise. 200 people behind one address may
/// register, log in and play at the same event.
const DEFAULTS: [(&str, &str); 7] = [
    ("network", "12000/m"),
    ("user", "6000/m"),
    ("register", "300/h"),
    ("login", "600/h"),
    (FAILED_LOGINS, "5/15m"),
    ("refresh", "120/m"),
    ("runs", "120/h"),
];
const FAILED_LOGINS: &str = "failed_logins";
/// Redeeming a refresh token is limited by sign-in alone: a neighbour must not be able to sign people out.
const REFRESH: &str = "/auth/refresh";

/// So many at once, and as many again over a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    seconds: NonZeroU32,
}

impl FromStr for Rate {
    type Err = ();

    /// `20/h`, `5/15m`
    fn from_str(text: &str) -> Result<Self, ()> {
        let (count, period) = text.split_once('/').ok_or(())?;
        let units = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60)];
        let (number, unit) = units
            .iter()
            .find_map(|(name, unit)| Some((period.strip_suffix(name)?, unit)))
            .ok_or(())?;
        let number = if number.is_empty() { "1" } else { number };
        let seconds = number
            .parse()
            .ok()
            .and_then(|number: u32| number.checked_mul(*unit));
        let count: NonZeroU32 = count.parse().map_err(|_| ())?;
        let seconds = seconds.and_then(NonZeroU32::new).ok_or(())?;
        // What makes no sense, and what would overflow further on.
        (count.get() <= 1_000_000 && seconds.get() <= 30 * 24 * 60 * 60)
            .then_some(Rate { count, seconds })
            .ok_or(())
    }
}

/// RATE_LIMITS: the rates by the names of the limits; what has none is not limited.
#[derive(Clone, Debug)]
pub struct RateLimits(BTreeMap<&'static str, Rate>);

impl Default for RateLimits {
    fn default() -> Self {
        let rates = DEFAULTS.iter();
        RateLimits(
            rates
                .filter_map(|(name, rate)| Some((*name, rate.parse().ok()?)))
                .collect(),
        )
    }
}

impl FromStr for RateLimits {
    type Err = String;

    /// `on`, `off`, and `name=20/h` or `name=off`, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = RateLimits::default();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let Some((name, rate)) = item.split_once('=') else {
                match item {
                    "on" => {}
                    "off" => limits.0.clear(),
                    _ => {
                        return Err(complain(
                            item,
                            "is neither on nor off nor name=count/period",
                        ));
                    }
                }
                continue;
            };
            let known = DEFAULTS.iter().find(|(known, _)| *known == name.trim());
            let Some((name, _)) = known else {
                let names = DEFAULTS.map(|(name, _)| name).join(", ");
                return Err(complain(item, &format!("names none of {names}")));
            };
            match rate.trim() {
                "off" => drop(limits.0.remove(name)),
                rate => {
                    let rate = rate.parse().map_err(|()| {
                        complain(item, "gives no count/period, with a count up to 1000000 and a period up to 30d")
                    })?;
                    limits.0.insert(name, rate);
                }
            }
        }
        Ok(limits)
    }
}

fn complain(item: &str, what: &str) -> String {
    format!("`{item}` {what}; valid is for example on,register=20/h,login=100/15m,user=off")
}

/// TRUSTED_PROXIES: networks whose word on whom they forward for is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        let parse = |item: &str| {
            let network = item
                .parse()
                .or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            network
                .ok()
                // Addresses are compared in their plain form: this one would never match.
                .filter(|network: &IpNet| network.addr() == network.addr().to_canonical())
                .ok_or_else(|| {
                    format!("`{item}` is no network; valid is for example 10.0.0.0/8,192.0.2.7,2001:db8::/32")
                })
        };
        items
            .map(parse)
            .collect::<Result<_, _>>()
            .map(TrustedProxies)
    }
}

impl TrustedProxies {
    /// The client's address: the peer's; behind trusted proxies the right-most address of `X-Forwarded-For` that
    /// is not one of theirs, for what stands further left is the client's own claim. `Forwarded` and the like are
    /// not read: the proxy may pass on the client's.
    pub fn client(&self, request: &Request) -> IpAddr {
        let mut client = match request.remote_addr() {
            RemoteAddr(poem::Addr::SocketAddr(address)) => address.ip().to_canonical(),
            _ => Ipv6Addr::UNSPECIFIED.into(),
        };
        let is_trusted = |address: &IpAddr| self.0.iter().any(|network| network.contains(address));
        if !is_trusted(&client) {
            return client;
        }
        let headers = request.headers().get_all("x-forwarded-for");
        // Several lines are one list (RFC 9110, section 5.3); empty elements count for nothing (section 5.6.1).
        let lines: Vec<_> = headers.iter().collect();
        let hops = lines
            .iter()
            .rev()
            .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for hop in hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()) {
            match address(hop) {
                Some(hop) => client = hop,
                // `unknown`, an obfuscated name, junk: whoever wrote it, nothing to its left can be believed.
                None => break,
            }
            if !is_trusted(&client) {
                break;
            }
        }
        client
    }
}

/// `192.0.2.7`, `192.0.2.7:443`, `2001:db8::7`, `[2001:db8::7]`, `[2001:db8::7]:443`
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?;
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok()?.into(),
        None => hop
            .parse()
            .or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()))
            .ok()?,
    };
    Some(address.to_canonical())
}

/// What one client holds: an IPv4 address, or the 64 bits of an IPv6 address that name a network.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// The limits of this process.
pub struct Limits {
    proxies: TrustedProxies,
    network: Limit<IpAddr>,
    user: Limit<Uuid>,
    /// Registrations, by network.
    pub register: Limit<IpAddr>,
    /// Attempts to log in, by network.
    pub login: Limit<IpAddr>,
    /// Wrong passwords, by account and network.
    pub failed_logins: FailedLogins,
    /// Refreshes, by sign-in.
    pub refresh: Limit<Uuid>,
    /// Sessions started and submissions edited, by user: the rules of a session limit what it writes, not how many
    /// there are.
    pub runs: Limit<Uuid>,
    /// What answers take that have not been read.
    pub answers: Arc<Answers>,
}

impl Limits {
    /// As the settings say.
    pub fn new(config: &Config, auth: &Auth) -> anyhow::Result<Self> {
        let rates = &config.rate_limits;
        Ok(Limits {
            proxies: config.trusted_proxies.clone(),
            network: Limit::new("network", rates),
            user: Limit::new("user", rates),
            register: Limit::new("register", rates),
            login: Limit::new("login", rates),
            failed_logins: FailedLogins::new(rates, auth.refresh.key_for(FAILED_LOGINS)?),
            refresh: Limit::new("refresh", rates),
            runs: Limit::new("runs", rates),
            answers: Arc::default(),
        })
    }

    /// The address of whoever sends a request.
    pub fn client(&self, request: &Request) -> IpAddr {
        self.proxies.client(request)
    }
}

/// Limits every request: by user where a valid token says who it is, by network where none does.
pub async fn limit<E: Endpoint>(endpoint: Arc<E>, mut request: Request) -> Result<Response> {
    let limits = &State::of(&request)?.limits;
    match bearer::claims(&request) {
        Ok(Some(claims)) => {
            limits.user.check(&claims.sub)?;
            // It need not be verified again.
            request.set_data(claims);
        }
        _ if request.uri().path() == REFRESH => {}
        _ => limits.network.check(&network(limits.client(&request)))?,
    }
    Ok(endpoint.call(request).await?.into_response())
}

/// Answers with nothing that would have the caller hold too much of our memory.
pub async fn limit_answers<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let state = State::of(&request)?.clone();
    let answers = &state.limits.answers;
    let caller = answers.caller(request.data(), state.limits.client(&request));
    let mut response = endpoint.call(request).await?.into_response();
    let bytes = response.take_body().into_bytes().await?;
    response.set_body(match answers.hold(caller, bytes.len())? {
        None => Body::from(bytes),
        Some(held) => Body::from(BoxBody::new(Unread { bytes, _held: held })),
    });
    Ok(response)
}

/// So much of an answer is moved at a time. The server has a piece or two beside it; over HTTP/1, 400 KiB a connection.
pub const PIECE: usize = 16 * 1024;

/// An answer that is handed over piece by piece, as it is read.
struct Unread {
    bytes: Bytes,
    _held: Held,
}

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let size = self.bytes.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(size)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

/// So much may all answers take that wait to be read. Each caller is left a quarter of what is still free: one has
/// 51 MiB, a hundred who are greedy have 2.5 MiB each, and then there is as much for whoever comes next. What is no longer
/// than a piece is not counted; nobody's tokens are longer.
const ANSWERS: usize = 256 * 1024 * 1024;
const CALLERS: usize = 16 * 1024;

/// Answers that are being sent, in bytes. A client reads as slowly as it likes.
pub struct Answers {
    hasher: RandomState,
    callers: Box<[AtomicUsize]>,
    all: AtomicUsize,
}

impl Default for Answers {
    fn default() -> Self {
        Answers {
            hasher: RandomState::new(),
            callers: (0..CALLERS).map(|_| AtomicUsize::default()).collect(),
            all: AtomicUsize::default(),
        }
    }
}

impl Answers {
    /// Where the answers of whoever sends a request are counted. Who shares it with somebody shares what there is; nobody
    /// can aim at it.
    pub fn caller(&self, claims: Option<&Claims>, address: IpAddr) -> usize {
        let hash = match claims {
            Some(claims) => self.hasher.hash_one(claims.sub),
            None => self.hasher.hash_one(network(address)),
        };
        hash as usize % CALLERS
    }

    /// Counts so many bytes of an answer until what is returned is dropped, or refuses it; nothing, where they are few.
    pub fn hold(self: &Arc<Self>, caller: usize, bytes: usize) -> Result<Option<Held>, Problem> {
        if bytes <= PIECE {
            return Ok(None);
        }
        let own = self.callers[caller].fetch_add(bytes, Ordering::Relaxed) + bytes;
        let before = self.all.fetch_add(bytes, Ordering::Relaxed);
        let held = Held {
            answers: self.clone(),
            caller,
            bytes,
        };
        if own > ANSWERS.saturating_sub(before) / 4 {
            count_refusal("answers");
            return Err(Problem::unavailable(
                "overloaded",
                "Too many answers wait to be read: read them, or try again in a moment.",
            ));
        }
        Ok(Some(held))
    }
}

/// What an answer is counted as for as long as it is there.
pub struct Held {
    answers: Arc<Answers>,
    caller: usize,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.callers[self.caller].fetch_sub(self.bytes, Ordering::Relaxed);
        self.answers.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One limit, for each of any number of clients.
pub struct Limit<K: Clone + Eq + Hash> {
    name: &'static str,
    limiter: Option<(Rate, Limiter<K>)>,
}

type Limiter<K> = RateLimiter<K, States<K>, MonotonicClock, StateInformationMiddleware>;

fn limiter<K: Clone + Eq + Hash>(rate: &Rate) -> Limiter<K> {
    let each = Duration::from_secs(rate.seconds.get().into()) / rate.count.get();
    // No count up to a million makes nothing of a second.
    let quota = Quota::with_period(each).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    Limiter::new(
        quota.allow_burst(rate.count),
        States::default(),
        MonotonicClock,
    )
}

impl<K: Clone + Eq + Hash> Limit<K> {
    /// The limit of this name; none, where it has no rate.
    pub fn new(name: &'static str, rates: &RateLimits) -> Self {
        let rate = rates.0.get(name);
        Limit {
            name,
            limiter: rate.map(|rate| (*rate, limiter(rate))),
        }
    }

    /// Counts one request of this client, or refuses it.
    pub fn check(&self, client: &K) -> Result<(), Problem> {
        let Some((rate, limiter)) = &self.limiter else {
            return Ok(());
        };
        let (outcome, remaining, reset) = match limiter.check_key(client) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = u64::from(rate.count.get().saturating_sub(remaining));
                let seconds = used * u64::from(rate.seconds.get());
                let reset = seconds.div_ceil(rate.count.get().into());
                (Ok(()), remaining, u32::try_from(reset).unwrap_or(u32::MAX))
            }
            Err(until) => {
                let wait = until.wait_time_from(MonotonicClock.now());
                // Rounded up: who waits so long is let in.
                let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX - 1) + 1;
                count_refusal(self.name);
                let detail = format!("Too many requests: try again in {seconds} s.");
                (
                    Err(Problem::too_many("rate_limited", detail, seconds)),
                    0,
                    seconds,
                )
            }
        };
        telemetry::note_limit(Standing {
            name: self.name,
            rate: *rate,
            remaining,
            reset,
        });
        outcome
    }
}

fn count_refusal(limit: &'static str) {
    metrics::counter!("rate_limited_total", "limit" => limit).increment(1);
}

/// Wrong passwords, counted in PostgreSQL by account and network, so that all replicas know of them.
///
/// From one network the first five are answered at once; from then on each doubles the wait, from half a minute up
/// to the quarter of an hour. Meanwhile no password is tried, not even the right one, or guessing would go on. The
/// right one starts anew.
///
/// Nobody can lock a user out from elsewhere, for what an account suffers depends on its name and the network
/// together. Only one thing depends on the account alone: where ten networks fail at it within the hour, it is hunted
/// by somebody who has many, and five guesses from each would be too many. Then a wrong password costs the longest
/// wait at once; but not in networks where the account has signed in, so that its user may mistype there as ever, and
/// the first attempt from any network is tried, so that whoever knows the password gets in from anywhere. Whoever
/// shares the user's own network can make her wait there, a quarter of an hour at a time; on her devices she stays
/// signed in all the same, and from every other network she gets in.
///
/// A name that nobody has is treated alike: it is counted whether or not there is such an account.
pub struct FailedLogins {
    rate: Option<Rate>,
    key: hmac::Key,
}

/// Somebody's attempt to log in. Without digests it is not limited.
pub struct Attempt {
    /// Of the user name.
    pub account: Option<Vec<u8>>,
    /// Of the user name and the network: the same network is another one for another account.
    pub network: Option<Vec<u8>>,
}

impl FailedLogins {
    fn new(rates: &RateLimits, key: hmac::Key) -> Self {
        FailedLogins {
            rate: rates.0.get(FAILED_LOGINS).copied(),
            key,
        }
    }

    /// What PostgreSQL counts an attempt by: neither the name nor the address can be read from it.
    pub fn attempt(&self, username: &str, address: IpAddr) -> Attempt {
        let name = username.to_ascii_lowercase();
        let digest = |text: &str| {
            self.rate
                .map(|_| hmac::sign(&self.key, text.as_bytes()).as_ref().to_vec())
        };
        Attempt {
            network: digest(&format!("{name} {}", network(address))),
            account: digest(&name),
        }
    }

    /// How many wrong passwords are free, and the longest wait in seconds.
    pub fn rate(&self) -> Option<(i32, f64)> {
        let rate = self.rate?;
        let free = i32::try_from(rate.count.get()).unwrap_or(i32::MAX);
        Some((free, rate.seconds.get().into()))
    }

    /// Counts a refusal that PostgreSQL decided on, and tells it in the headers.
    pub fn note(&self, problem: &Problem) {
        if let Some(rate) = self.rate
            && problem.code() == "too_many_failed_logins"
        {
            count_refusal(FAILED_LOGINS);
            telemetry::note_limit(Standing {
                name: FAILED_LOGINS,
                rate,
                remaining: 0,
                reset: problem.retry_after().unwrap_or_default(),
            });
        }
    }
}

/// How a limit stands after a request was counted or refused.
#[derive(Clone, Copy)]
pub struct Standing {
    name: &'static str,
    rate: Rate,
    remaining: u32,
    /// Seconds until all of it is there again; after a refusal, until one more request is allowed.
    reset: u32,
}

/// Tells the client how its limits stand.
pub fn show(standings: &[Standing], headers: &mut HeaderMap) {
    let (mut limits, mut policies) = (String::new(), String::new());
    for Standing {
        name,
        rate,
        remaining,
        reset,
    } in standings
    {
        let comma = if limits.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(limits, "{comma}\"{name}\";r={remaining};t={reset}");
        let _ = write!(
            policies,
            "{comma}\"{name}\";q={};w={}",
            rate.count, rate.seconds
        );
    }
    for (name, value) in [(RATE_LIMIT, limits), (RATE_LIMIT_POLICY, policies)] {
        if let Ok(value) = HeaderValue::try_from(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

/// How many clients share a place in the table of a limit, and how many places there are: 256 KiB a limit.
const WAYS: usize = 8;
const PLACES: usize = 2048;

/// The states of a limit's clients, in a table that never grows, however many clients come.
///
/// A client that finds its place full takes the slot of whoever has the least to wait for, which is at most what
/// it has itself just begun: clients that have used much are not forgotten because of a million that use little. A
/// client that has long been idle has nothing to remember anyway.
pub struct States<K> {
    hasher: RandomState,
    places: Box<[Mutex<[Slot; WAYS]>]>,
    keys: PhantomData<fn(K)>,
}

/// A client's hash, keyed so that nobody can aim at a place, and the time at which all that it may use is there again:
/// nanoseconds since the start, 0 for an empty slot.
#[derive(Clone, Copy, Default)]
struct Slot {
    client: u64,
    free_at: u64,
}

impl<K> Default for States<K> {
    fn default() -> Self {
        States {
            hasher: RandomState::new(),
            places: (0..PLACES).map(|_| Mutex::default()).collect(),
            keys: PhantomData,
        }
    }
}

impl<K> States<K> {
    /// How many clients are remembered: 16,384 at most.
    pub fn clients(&self) -> usize {
        let used = |place: &Mutex<[Slot; WAYS]>| {
            let slots = place.lock().unwrap_or_else(PoisonError::into_inner);
            slots.iter().filter(|slot| slot.free_at > 0).count()
        };
        self.places.iter().map(used).sum()
    }
}

impl<K: Hash> StateStore for States<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let client = self.hasher.hash_one(key);
        let mut slots = self.places[client as usize % PLACES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = slots
            .iter()
            .position(|slot| slot.free_at > 0 && slot.client == client);
        let known = own.map(|own| Nanos::new(slots[own].free_at));
        let (decision, free_at) = decide(known)?;
        let least = || (0..WAYS).min_by_key(|index| slots[*index].free_at);
        if let Some(index) = own.or_else(least) {
            slots[index] = Slot {
                client,
                free_at: free_at.as_u64(),
            };
        }
        Ok(decision)
    }
}
