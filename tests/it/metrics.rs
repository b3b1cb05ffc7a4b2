//! The metrics as Prometheus sees them. Each has an explanation, and moves with what happens. The metrics that the
//! dashboard and the alerts ask for exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use speedcoding::telemetry::METRICS;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Duration, sleep, timeout},
};

use crate::support::{
    actor::{Actor, PASSWORD, text},
    cluster::{Database, done},
    program::{Scratch, tell_untold},
    proxy::Proxy,
    race::race,
    upstream::Upstream,
};

const EMPTY: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";
/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Prometheus' own default.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// The metrics of the process, which the crate `metrics-process` adds.
const OF_PROCESS: [(&str, &str); 8] = [
    ("process_cpu_seconds_total", "counter"),
    ("process_max_fds", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_threads", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
    ("process_virtual_memory_max_bytes", "gauge"),
];
const DASHBOARD: &str = "docs/monitoring/dashboard.json";
const ALERTS: &str = "docs/monitoring/alerts.yml";

type Labels = BTreeMap<String, String>;

/// A page of metrics in Prometheus' text format.
struct Page {
    text: String,
    /// The type of each family. A family must have an explanation, too.
    types: BTreeMap<String, String>,
    samples: Vec<(String, Labels, f64)>,
}

impl Page {
    async fn of(url: &str) -> Self {
        let asked = async { reqwest::get(url).await?.error_for_status()?.text().await };
        let text = timeout(SCRAPE_TIMEOUT, asked).await.expect("in time");
        Self::read(text.expect("metrics"))
    }

    fn read(text: String) -> Self {
        let (mut types, mut samples) = (BTreeMap::new(), Vec::new());
        let mut explained = BTreeSet::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, meaning) = help.split_once(' ').expect("a meaning");
                assert!(meaning.ends_with('.'), "{line}");
                assert!(explained.insert(name.to_owned()), "twice: {line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert!(explained.contains(name), "not explained: {line}");
                types.insert(name.to_owned(), kind.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').expect(line);
                let (name, labels) = selector(series);
                let labels = labels.into_iter().map(|(name, _, value)| (name, value));
                let family = family(&name, &types);
                assert!(types.contains_key(family), "of no family: {line}");
                samples.push((name, labels.collect(), value.parse().expect(line)));
            }
        }
        Page {
            text,
            types,
            samples,
        }
    }

    /// The sum of the series that these matchers select, or nothing if they select none.
    fn value(&self, series: &str) -> Option<f64> {
        let (name, matchers) = selector(series);
        let values = self.samples.iter().filter(|(known, labels, _)| {
            *known == name
                && matchers.iter().all(|(label, operator, value)| {
                    let has = labels.get(label).map_or("", String::as_str);
                    match operator.as_str() {
                        "=" => has == value,
                        "!=" => has != value,
                        "=~" => is_like(value, has),
                        "!~" => !is_like(value, has),
                        other => panic!("{other} in {series}"),
                    }
                })
        });
        values.map(|(.., value)| *value).reduce(|a, b| a + b)
    }
}

/// The family of a series. In a histogram, series have three different endings.
fn family<'a>(name: &'a str, types: &BTreeMap<String, String>) -> &'a str {
    let parts = ["_bucket", "_sum", "_count"];
    let base = parts.iter().find_map(|part| name.strip_suffix(part));
    base.filter(|base| types.get(*base).is_some_and(|kind| kind == "histogram"))
        .unwrap_or(name)
}

/// Matches a regular expression that has only alternatives and dots.
fn is_like(pattern: &str, text: &str) -> bool {
    assert!(
        pattern
            .chars()
            .all(|c| c.is_alphanumeric() || "._|-".contains(c)),
        "{pattern}"
    );
    pattern.split('|').any(|pattern| {
        pattern.chars().count() == text.chars().count()
            && pattern
                .chars()
                .zip(text.chars())
                .all(|(p, c)| p == '.' || p == c)
    })
}

/// `name{label="value"}`: the name, and each label with its operator and value.
fn selector(series: &str) -> (String, Vec<(String, String, String)>) {
    let Some((name, rest)) = series.split_once('{') else {
        return (series.to_owned(), Vec::new());
    };
    let inner = rest.strip_suffix('}').expect(series);
    let matchers = inner.split_terminator("\",").map(|matcher| {
        let (label, value) = matcher.split_once('"').expect(series);
        let at = label.find(['=', '!']).expect(series);
        let (label, operator) = label.split_at(at);
        let value = value.trim_end_matches('"');
        (
            label.trim().to_owned(),
            operator.to_owned(),
            value.to_owned(),
        )
    });
    (name.to_owned(), matchers.collect())
}

/// The series that an expression of PromQL selects.
fn selected(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = expression;
    while let Some(at) = rest.find(|c: char| is_part(c) || "[(\"".contains(c)) {
        rest = &rest[at..];
        // A range and a text are no series.
        if let Some(inner) = rest.strip_prefix('[') {
            rest = inner.split_once(']').expect(expression).1;
            continue;
        }
        if let Some(inner) = rest.strip_prefix('"') {
            rest = inner.split_once('"').expect(expression).1;
            continue;
        }
        if let Some(inner) = rest.strip_prefix('(') {
            rest = inner;
            continue;
        }
        let (word, after) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        rest = after;
        match word {
            // Labels follow these words.
            "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" => {
                let labels = after.trim_start().strip_prefix('(').expect(expression);
                rest = labels.split_once(')').expect(expression).1;
            }
            "and" | "or" | "unless" | "bool" | "offset" => {}
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => {}
            _ if ["(", "by ", "without "]
                .iter()
                .any(|next| after.trim_start().starts_with(next)) => {}
            _ => {
                let matchers = after.starts_with('{').then(|| {
                    let end = after.find('}').expect(expression);
                    rest = &after[end + 1..];
                    &after[..=end]
                });
                found.push(format!("{word}{}", matchers.unwrap_or_default()));
            }
        }
    }
    found
}

/// Every expression of the dashboard and of the alerts.
fn expressions() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member.as_str().filter(|_| name == "expr") {
                        Some(expression) => found.push(expression.to_owned()),
                        None => collect(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let dashboard = fs::read_to_string(DASHBOARD).expect(DASHBOARD);
    collect(&serde_json::from_str(&dashboard).expect("JSON"), &mut found);
    let alerts = fs::read_to_string(ALERTS).expect(ALERTS);
    collect(&serde_yaml_ng::from_str(&alerts).expect("YAML"), &mut found);
    found
}

#[test]
fn the_series_of_an_expression_are_found() {
    for (expression, series) in [
        ("up == 0", vec!["up"]),
        (
            r#"sum by (operation) (rate(a_total{status=~"5..|429",of!="x"}[5m])) / on (job) b > bool 0.5"#,
            vec![r#"a_total{status=~"5..|429",of!="x"}"#, "b"],
        ),
        (
            "histogram_quantile(0.99, sum(rate(c_bucket[5m])) by (le)) and d offset 5m",
            vec!["c_bucket", "d"],
        ),
    ] {
        assert_eq!(selected(expression), series);
    }
}

/// Asks for the metrics until this condition holds.
async fn until(url: &str, what: &str, is_so: impl Fn(&Page) -> bool) -> Page {
    let so = async {
        loop {
            let page = Page::of(url).await;
            if is_so(&page) {
                return page;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, so).await.expect(what)
}

async fn refresh(visitor: &Actor, token: &str) -> crate::support::actor::Answer {
    let body = json!({ "refreshToken": token });
    visitor.post("/auth/refresh", body).await
}

#[tokio::test]
async fn each_metric_is_explained_and_moves_with_what_happens() {
    let database = Database::migrated().await;
    let is_away = Arc::new(AtomicBool::new(false));
    let away = is_away.clone();
    let upstream = Upstream::acting(move |_, mut stream| {
        let is_away = away.load(Ordering::SeqCst);
        async move {
            if is_away {
                return None;
            }
            stream.write_all(EMPTY.as_bytes()).await.ok()?;
            Some(stream)
        }
    })
    .await;
    let owner = database.owner().await;
    let scratch = Scratch::new();
    let program = scratch
        .program(&["serve"])
        .on(database.url().expose_secret())
        .env("METRICS_BIND", "127.0.0.1:0")
        .env("POSTGREST_URL", upstream.url.as_str())
        .env("RATE_LIMITS", "register=6/h")
        .serve()
        .await;
    let (url, visitor) = (program.metrics(), program.visitor());
    let before = Page::of(&url).await;
    assert_eq!(before.value("requests_shed_total"), Some(0.0));
    assert_eq!(before.value("db_up"), Some(1.0));

    visitor
        .log_in("nobody", "not the password")
        .await
        .problem(401, "wrong_credentials");

    // The outcomes of refreshes.
    let sign_up = async |name: &str| {
        let tokens = visitor.register_with(name, PASSWORD).await.ok(201);
        text(&tokens, "/refreshToken")
    };
    let next = async |token: &str| text(&refresh(&visitor, token).await.ok(200), "/refreshToken");
    let refused = async |token: &str| {
        let refused = refresh(&visitor, token).await;
        assert!([401, 403].contains(&refused.status.as_u16()));
    };
    let first = sign_up("ada").await;
    let second = next(&first).await;
    assert_eq!(next(&first).await, second, "its answer was lost");
    let third = next(&second).await;
    let dashboard = &owner;
    let set = async |what: &str| {
        let sign_ins = format!("update private.refresh_tokens set {what} where revoked_at is null");
        done(dashboard, &sign_ins).await;
    };
    set("earlier_rotations = '{}'").await; // a while later
    refused(&first).await; // by a thief
    refused(&third).await;
    refused("rt_unknown").await;
    let late = sign_up("bob").await;
    set("created_at = now() - interval '20 days', idle_expires_at = now() - interval '1 day'")
        .await;
    refused(&late).await;
    set("revoked_at = now(), revoked_reason = 'logout'").await;
    let newer = next(&sign_up("carol").await).await;
    set("generation = 1").await; // a backup was restored
    refused(&newer).await;
    let banned = sign_up("dan").await;
    done(
        dashboard,
        "insert into public.bans (user_id) select id from public.users where username = 'dan'",
    )
    .await;
    refused(&banned).await;
    let page = Page::of(&url).await;
    for (outcome, count) in [
        ("rotated", 3.0),
        ("replayed", 1.0),
        ("reused", 1.0),
        ("ended", 1.0),
        ("unknown", 1.0),
        ("expired", 1.0),
        ("rolled_back", 1.0),
        ("banned", 1.0),
    ] {
        let series = format!("refreshes_total{{outcome=\"{outcome}\"}}");
        assert_eq!(page.value(&series), Some(count), "{outcome}");
    }

    // Sessions, the pool and the queue of passwords.
    assert_eq!(page.value("sessions_running"), Some(0.0));
    let (eve, fay) = (
        program.visitor().register("eve").await,
        program.visitor().register("fay").await,
    );
    visitor
        .register_with("one-too-many", PASSWORD)
        .await
        .problem(429, "rate_limited");
    let session = eve.start("freestyle").await;
    fay.start("freestyle").await;
    let is_running = |count| move |page: &Page| page.value("sessions_running") == Some(count);
    until(&url, "two sessions", is_running(2.0)).await;
    done(
        dashboard,
        &format!("update public.sessions set deadline = start_time + interval '1 microsecond' where user_id = '{}'", fay.id),
    )
    .await;
    until(
        &url,
        "one session, for the other's time is up",
        is_running(1.0),
    )
    .await;
    eve.end(&session).await.ok(200);
    let page = until(&url, "no session", is_running(0.0)).await;
    assert_eq!(page.value("password_queue_wait_seconds_count"), Some(7.0));
    let places = page.value("password_queue_places");
    assert!(places > page.value("password_queue_taken"), "{places:?}");
    assert_eq!(page.value("password_queue_waiting"), Some(0.0));
    let calls = page.value("db_call_duration_seconds_count").expect("calls");
    assert_eq!(page.value("db_pool_wait_seconds_count"), Some(calls));
    assert!(page.value("db_pool_connections") >= Some(1.0));
    assert!(page.value("db_pool_connections") <= page.value("db_pool_connections_max"));
    assert_eq!(
        page.value(r#"rate_limited_total{limit="register"}"#),
        Some(1.0)
    );

    // PostgREST, first while it is there, and then while it is away.
    let rest = async || {
        let request = visitor.request(reqwest::Method::GET, "/rest/v1/users");
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(rest().await, 200);
    is_away.store(true, Ordering::SeqCst);
    assert_eq!(rest().await, 502);
    let page = Page::of(&url).await;
    assert_eq!(
        page.value(r#"postgrest_requests_total{answer="2xx"}"#),
        Some(1.0)
    );
    assert_eq!(
        page.value(r#"postgrest_requests_total{answer="unreachable"}"#),
        Some(1.0)
    );
    assert_eq!(page.value("postgrest_requests_in_flight"), Some(0.0));
    assert_eq!(
        page.value("postgrest_request_duration_seconds_count"),
        page.value("postgrest_requests_total"),
    );

    // The service holds a body that does not end, for as long as its client stays.
    let address = program.base.trim_start_matches("http://");
    let mut client = TcpStream::connect(address).await.expect("a connection");
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{";
    client.write_all(head.as_bytes()).await.expect("a request");
    let held = |page: &Page| page.value(r#"http_held_bytes{of="bodies"}"#);
    let page = until(&url, "a body", |page| held(page) > Some(0.0)).await;
    assert_eq!(held(&page), Some(100_000.0));
    assert!(page.value("http_connections") >= Some(1.0));
    drop(client);
    let page = until(&url, "no body", |page| held(page) == Some(0.0)).await;
    assert_eq!(page.value(r#"http_held_bytes{of="answers"}"#), Some(0.0));

    // The page has these metrics, and no others.
    let ours = METRICS
        .iter()
        .map(|(kind, name, _)| (*name, kind.to_string()));
    let process = OF_PROCESS.map(|(name, kind)| (name, kind.to_owned()));
    let all: BTreeMap<_, _> = ours.chain(process).collect();
    let found = page
        .types
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.clone()));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), all);
    for (name, _) in OF_PROCESS {
        assert!(
            page.value(name) >= before.value(name).filter(|_| name.contains("cpu")),
            "{name}"
        );
    }
    assert!(page.value("process_resident_memory_bytes") > Some(1e6));
    assert!(page.value("process_threads") > Some(1.0));
    check_with_promtool(&["check", "metrics"], Some(&page.text));

    // Every series that the dashboard and the alerts ask for exists, down to each label.
    for expression in expressions() {
        for series in selected(&expression) {
            // Prometheus adds the first series itself. A 500 should never come, so its series is looked up with the
            // status 200.
            let is_there = series == r#"up{job="speedcoding"}"#
                || page
                    .value(&series.replace(r#"status="500""#, r#"status="200""#))
                    .is_some();
            assert!(is_there, "no {series}, which {expression} asks for");
        }
    }
    program.stop().await.well();
}

#[tokio::test]
async fn metrics_come_while_the_database_is_silent_and_tell_what_was_shed() {
    let database = Database::migrated().await;
    let proxy = Proxy::before(database.url()).await;
    let scratch = Scratch::new();
    let program = scratch
        .program(&["serve"])
        .on(proxy.url().expose_secret())
        .env("METRICS_BIND", "127.0.0.1:0")
        .env("STATEMENT_TIMEOUT", "5")
        .env("DB_CONNECTIONS", "1")
        .env("RATE_LIMITS", "off")
        .serve()
        .await;
    let url = program.metrics();
    let runner = program.visitor().register("ada").await;
    proxy.swallow();
    proxy.mute();
    let stuck = race((0..3).map(|_| {
        let runner = runner.clone();
        async move { runner.get("/auth/me").await }
    }));
    let shed = |page: &Page| page.value(r#"requests_shed_total{resource="database"}"#);
    let page = until(&url, "a refusal", |page| {
        shed(page) > Some(0.0) && page.value("db_up") == Some(0.0)
    })
    .await;
    let running = page.value("sessions_running").expect("a series");
    assert!(running.is_nan(), "{running}");
    proxy.unmute();
    stuck.answers().await;
    let page = until(&url, "it is back", |page| page.value("db_up") == Some(1.0)).await;
    assert_eq!(page.value("sessions_running"), Some(0.0));
    program.stop().await.well();
}

/// Checks that Prometheus' own tool has no complaint.
fn check_with_promtool(arguments: &[&str], input: Option<&str>) {
    let started = Command::new("promtool")
        .args(arguments)
        .current_dir(Path::new(ALERTS).parent().expect("a folder"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        return tell_untold(&arguments.join(" "), "promtool, of Prometheus");
    };
    let mut stdin = child.stdin.take().expect("its input");
    stdin
        .write_all(input.unwrap_or_default().as_bytes())
        .expect("a pipe");
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn the_alerts_are_rules_that_fire_when_they_should() {
    check_with_promtool(&["check", "rules", "--lint-fatal", "alerts.yml"], None);
    check_with_promtool(&["test", "rules", "alerts.test.yml"], None);
}
