//! After any events in any order, the boards are what their definition says.
//!
//! Runners do random things through the API, and moderators in the dashboard, in parallel. After each batch the test
//! computes the boards from scratch. It compares them with the stored boards and with the API's answers.
//! `BOARDS_PROPERTY_SECONDS` sets the time, and `BOARDS_PROPERTY_SEED` repeats the choices of a run.

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant, SystemTime},
};

use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{
    actor::{Actor, answer, text},
    app::TestApp,
    race::race,
};

const WORKERS: u64 = 8;
const OPERATIONS_IN_A_BATCH: u64 = 50;
const RUNNERS: usize = 12;
const CHALLENGES: [&str; 3] = ["slack-clone", "sprint", "freestyle"];
const STACKS: [&str; 5] = ["Rust", "Go", "rust", "Zig, Postgres", "postgres + ZIG"];

/// Numbers that look random (splitmix64) and can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.roll(of.len() as u64)).expect("an index")]
    }
}

/// A worker: a runner with an account, and the dashboard.
struct Worker {
    number: u64,
    dice: Dice,
    visitor: Actor,
    runner: Actor,
    dashboard: Client,
    registered: u64,
    tally: Tally,
}

/// The changes that were made, and how often a change was refused.
#[derive(Default)]
struct Tally {
    done: BTreeMap<&'static str, u64>,
    refused: BTreeMap<String, u64>,
}

impl Worker {
    async fn act(&mut self) {
        // The dashboard changes some rows at random, one or many in a statement.
        let few = [1, 1, 1, 3, 40][usize::try_from(self.dice.roll(5)).expect("an index")];
        let some_submissions = |of: &str| {
            format!(
                "id in (select id from public.submissions where {of} order by random() limit {few})"
            )
        };
        let some_sessions = format!(
            "id in (select id from public.sessions where status = 'completed' order by random() limit {few})"
        );
        let some_users = "id in (select id from public.users where username like 'runner%' order by random() limit 1)";
        let seconds = self.dice.roll(5);
        let stack = *self.dice.pick(&STACKS);
        let challenge = *self.dice.pick(&CHALLENGES);
        let number = self.dice.roll(1_000_000);
        let (what, statement) = match self.dice.roll(30) {
            0..=7 => return self.run().await,
            8..=13 => (
                "approve",
                format!(
                    "update public.submissions set status = 'APPROVED', video_url = coalesce(video_url, 'https://youtu.be/abc')
                      where {}",
                    some_submissions("status = 'PENDING'")
                ),
            ),
            14 => (
                "reject",
                format!(
                    "update public.submissions set status = 'REJECTED', review_reason = 'no' where {}",
                    some_submissions("status = 'PENDING'")
                ),
            ),
            15 | 16 => (
                "reopen",
                format!(
                    "update public.submissions set status = 'PENDING' where {}",
                    some_submissions("status <> 'PENDING'")
                ),
            ),
            17 | 18 => (
                "correct the end",
                format!("update public.sessions set end_time = start_time + interval '{seconds} seconds' where {some_sessions}"),
            ),
            19 => (
                "correct the start",
                format!("update public.sessions set start_time = end_time - interval '{seconds} seconds' where {some_sessions}"),
            ),
            20 | 21 => (
                "correct the stack",
                format!("update public.sessions set tech_stack = '{stack}' where {some_sessions}"),
            ),
            22 | 23 => (
                "ban",
                format!("insert into public.bans (user_id) select id from public.users where {some_users} on conflict do nothing"),
            ),
            24 | 25 => (
                "unban",
                format!(
                    "delete from public.bans
                      where user_id in (select user_id from public.bans order by random() limit {few})"
                ),
            ),
            26 => (
                "rename",
                format!("update public.users set username = 'runner_r{}_{number}' where {some_users}", self.number),
            ),
            27 => (
                "switch a challenge",
                format!(
                    "update public.challenges set ranked = not ranked or slug <> 'sprint', active = {} where slug = '{challenge}'",
                    !number.is_multiple_of(4)
                ),
            ),
            28 => (
                "delete runs",
                format!("delete from public.sessions where {some_sessions}"),
            ),
            _ => ("delete a user", format!("delete from public.users where {some_users}")),
        };
        match self.dashboard.batch_execute(&statement).await {
            Ok(()) => *self.tally.done.entry(what).or_default() += 1,
            Err(error) => {
                let error = error.as_db_error().expect("PostgreSQL's error");
                // Two statements that change several of the same rows may deadlock, and one of them has to try again.
                // One of them may be waiting for a board then. boards/many.rs shows that boards alone cause no deadlock. A user
                // who is banned may be deleted meanwhile.
                let code = error.code().code();
                let gone = what == "ban" && code == "23503";
                assert!(
                    gone || ["PT409", "40P01"].contains(&code),
                    "{statement}: {error:?}"
                );
                *self.tally.refused.entry(code.to_owned()).or_default() += 1;
            }
        }
    }

    /// A run through the API, with an account that may have been banned or deleted meanwhile.
    async fn run(&mut self) {
        let challenge = *self.dice.pick(&CHALLENGES[1..]);
        let stack = *self.dice.pick(&STACKS);
        let start = json!({ "techStack": stack, "challenge": challenge });
        let started = self.runner.start_with(start).await;
        match started.status.as_u16() {
            201 => {}
            // The account was deleted or banned.
            401 | 403 => {
                self.registered += 1;
                let name = format!("runner_{}_{}", self.number, self.registered);
                self.runner = self.visitor.clone().register(&name).await;
                return;
            }
            // The challenge was withdrawn, or the account was deleted just now.
            404 | 503 => return,
            // The account was banned during the run.
            409 => {
                self.runner.end(&text(&started.body, "/sessionId")).await;
                return;
            }
            _ => panic!("{started:?}"),
        }
        let session = text(&started.body, "/id");
        let ended = self.runner.end(&session).await;
        assert!(
            [200, 401, 403, 404, 503].contains(&ended.status.as_u16()),
            "{ended:?}"
        );
        *self.tally.done.entry("run").or_default() += 1;
        let standing = self
            .runner
            .get(&format!("/leaderboards/{challenge}/me"))
            .await;
        assert!(
            [200, 401, 403, 404].contains(&standing.status.as_u16()),
            "{standing:?}"
        );
    }
}

/// The answer that the API must give for a board, by the board's definition.
const BOARD: &str = "
    with runs as (
      select s.*, u.username
        from public.submissions as s
        join public.users as u on u.id = s.user_id and u.id not in (select user_id from public.bans)
        join public.challenges as c on c.id = s.challenge_id and c.slug = $1
       where s.status = 'APPROVED' and ($2::text is null or s.tech_stack_key = private.tech_stack_key($2))
    ),
    bests as (
      select distinct on (user_id) * from runs order by user_id, total_ms, end_time, id
    ),
    records as (
      select * from runs
       where not exists (
         select from runs as before
          where (before.end_time, before.total_ms, before.id) < (runs.end_time, runs.total_ms, runs.id)
            and before.total_ms <= runs.total_ms
       )
    )
    select coalesce((
             select jsonb_agg(jsonb_build_array(place, username, session_id, tech_stack, total_ms)
                              order by total_ms, end_time, id)
               from (select *, rank() over (order by total_ms) as place from bests) as ranked
           ), '[]'),
           coalesce((
             select jsonb_agg(jsonb_build_array(username, session_id, tech_stack, total_ms) order by total_ms)
               from records
           ), '[]')";

/// Compares the stored boards, the computed ones and the API's answers.
async fn compare(
    app: &TestApp,
    dashboard: &Client,
    known: &mut BTreeMap<String, (String, Value)>,
    runners: &[Actor],
) {
    let rows = dashboard
        .query("select c::text from private.check_boards() as c", &[])
        .await
        .expect("a check");
    let wrong: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(wrong, [""; 0], "the stored boards are wrong");

    for challenge in CHALLENGES {
        let ranked: bool = dashboard
            .query_one(
                "select ranked from public.challenges where slug = $1",
                &[&challenge],
            )
            .await
            .expect("a challenge")
            .get(0);
        for stack in std::iter::once(None).chain(STACKS.map(Some)) {
            let row = dashboard
                .query_one(BOARD, &[&challenge, &stack])
                .await
                .expect("the truth");
            let (bests, records): (Value, Value) = (row.get(0), row.get(1));
            let query = |path: &str| {
                let stack = stack.map_or(String::new(), |stack| {
                    format!("&techStack={}", stack.replace('+', "%2B"))
                });
                format!("/leaderboards/{challenge}{path}?limit=5{stack}")
            };
            for (path, facts, truth) in [
                (
                    "",
                    &[
                        "rank",
                        "/user/username",
                        "sessionId",
                        "techStack",
                        "totalTimeMs",
                    ][..],
                    &bests,
                ),
                (
                    "/records",
                    &["/user/username", "sessionId", "techStack", "totalTimeMs"],
                    &records,
                ),
            ] {
                let url = query(path);
                let Some(items) = walk(app, &url, known).await else {
                    let hidden = !ranked || truth.as_array().is_some_and(Vec::is_empty);
                    assert!(hidden, "{url} is not there");
                    continue;
                };
                let seen: Value = items
                    .iter()
                    .map(|item| -> Value {
                        let fact = |fact: &&str| match fact.starts_with('/') {
                            true => item.pointer(fact).cloned(),
                            false => item.get(*fact).cloned(),
                        };
                        facts
                            .iter()
                            .map(fact)
                            .collect::<Option<Value>>()
                            .expect("facts")
                    })
                    .collect();
                assert!(ranked, "{url}");
                assert_eq!(seen, *truth, "{url}");
            }
        }
    }

    for runner in runners {
        let standing = runner.get("/leaderboards/sprint/me").await;
        if standing.status != 200 {
            continue;
        }
        let place = dashboard
            .query_opt(
                "select place from (
                   select user_id, rank() over (order by total_ms) as place
                     from public.personal_bests as p join public.challenges as c on c.id = p.challenge_id
                    where c.slug = 'sprint' and tech_stack_key = ''
                 ) as ranked where user_id = $1::text::uuid",
                &[&runner.id],
            )
            .await
            .expect("a place");
        let place: Option<i64> = place.map(|row| row.get(0));
        assert_eq!(standing.body["rank"], json!(place), "{standing:?}");
    }
}

/// A list, page by page, or nothing if there is none. Two answers with the same tag must be equal.
async fn walk(
    app: &TestApp,
    url: &str,
    known: &mut BTreeMap<String, (String, Value)>,
) -> Option<Vec<Value>> {
    let mut items = Vec::new();
    let mut page_url = url.to_owned();
    loop {
        let page = app.visitor().get(&page_url).await;
        if page.status == 404 {
            return None;
        }
        let tag = page.headers[header::ETAG]
            .to_str()
            .expect("text")
            .to_owned();
        let page = page.ok(200);
        if let Some((old_tag, old_page)) = known.get(&page_url) {
            let request = app.visitor().request(Method::GET, &page_url);
            let again = answer(request.header(header::IF_NONE_MATCH, old_tag)).await;
            assert_eq!(again.status == 304, *old_tag == tag, "{page_url}");
            assert!(
                again.status != 304 || *old_page == page,
                "{page_url}: 304, but the list has changed"
            );
        }
        known.insert(page_url, (tag, page.clone()));
        items.extend(page["items"].as_array().expect("items").clone());
        match page["nextCursor"].as_str() {
            Some(cursor) => page_url = format!("{url}&cursor={cursor}"),
            None => return Some(items),
        }
    }
}

/// A connection that learns of a deadlock at once.
async fn impatient(app: &TestApp) -> Client {
    let client = app.sql().await;
    client
        .batch_execute("set deadlock_timeout = '10ms'")
        .await
        .expect("a setting");
    client
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect(name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boards_stay_true_under_random_operations() {
    let duration = Duration::from_secs(setting("BOARDS_PROPERTY_SECONDS").unwrap_or(20));
    let seed = setting("BOARDS_PROPERTY_SEED").unwrap_or_else(|| {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("a time");
        now.as_secs()
    });
    let app = TestApp::start_with(|config| {
        config.db_connections = Some(64);
        // In ten minutes the test makes more accounts than one address may.
        config.rate_limits = "off".parse().expect("limits");
    })
    .await;
    let dashboard = app.sql().await;
    dashboard
        .batch_execute("insert into public.challenges (slug, title) values ('sprint', 'Sprint')")
        .await
        .expect("a challenge");
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(Worker {
            number,
            dice: Dice(seed.wrapping_mul(1000).wrapping_add(number)),
            visitor: app.visitor(),
            runner: app.runner(&format!("runner_{number}")).await,
            dashboard: impatient(&app).await,
            registered: 0,
            tally: Tally::default(),
        });
    }
    let mut others = Vec::new();
    for number in workers.len()..RUNNERS {
        others.push(app.runner(&format!("runner_other_{number}")).await);
    }
    let mut known = BTreeMap::new();
    let (began, mut batches) = (Instant::now(), 0);
    while began.elapsed() < duration {
        let batch = workers.into_iter().map(|mut worker| async move {
            for _ in 0..OPERATIONS_IN_A_BATCH {
                worker.act().await;
            }
            worker
        });
        workers = race(batch).answers().await;
        batches += 1;
        let runners: Vec<_> = workers.iter().map(|worker| worker.runner.clone()).collect();
        // The seed repeats the choices of a failed run, but not how the workers met.
        println!("seed {seed}, batch {batches}");
        compare(&app, &dashboard, &mut known, &runners).await;
    }

    let (mut done, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for worker in workers {
        for (what, times) in worker.tally.done {
            *done.entry(what).or_insert(0) += times;
        }
        for (what, times) in worker.tally.refused {
            *refused.entry(what).or_insert(0) += times;
        }
    }
    let total: u64 = done.values().sum();
    eprintln!("{total} operations in {batches} batches: {done:?}; refused: {refused:?}");
    assert!(total > 100, "{done:?}");
    assert_eq!(done.len(), 13, "each kind of change has happened: {done:?}");
}
