//! The checks: some hold always, some at the end.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;
use tokio_postgres::types::Json;

use super::{
    client::{CHALLENGE, Client, Life, Run},
    history::{History, Kind},
    world::Server,
};

/// States that must never be in the database. Each query looks for one, and must find nothing.
const INVARIANTS: &[(&str, &str)] = &[
    (
        "two running sessions of one user",
        "select user_id::text from public.sessions where status = 'running' group by user_id having count(*) > 1",
    ),
    (
        "a milestone twice in one session",
        "select session_id::text from public.milestones group by session_id, milestone_number having count(*) > 1",
    ),
    (
        "a milestone before the one before it, or before the start",
        "select m.session_id::text
           from public.milestones as m
           join public.sessions as s on s.id = m.session_id
           left join public.milestones as earlier
             on earlier.session_id = m.session_id and earlier.milestone_number = m.milestone_number - 1
          where m.passed
            and (m.completed_at < s.start_time
              or m.milestone_number > 1 and (earlier.passed is not true or earlier.completed_at > m.completed_at))",
    ),
    (
        "a total that is not the end less the start, or an end before the last split",
        "select s.id::text
           from public.sessions as s
          where s.status <> 'running'
            and (s.total_ms is distinct from round(extract(epoch from s.end_time - s.start_time) * 1000)
              or s.end_time < (select max(m.completed_at) from public.milestones as m where m.session_id = s.id))",
    ),
    (
        "a completed session without its milestones or its submission, or a submission without one",
        "select coalesce(s.id, h.session_id)::text
           from public.sessions as s
           full join public.submissions as h on h.session_id = s.id
          where (s.status = 'completed') <> (h.id is not null)
             or s.status = 'completed'
            and (s.total_ms <> h.total_ms
              or 7 <> (select count(*) from public.milestones as m where m.session_id = s.id and m.passed))",
    ),
    (
        "a personal best that is not the best approved run",
        "with bests as (
           select distinct on (user_id) user_id, id, total_ms
             from public.submissions where status = 'APPROVED' order by user_id, total_ms, end_time, id
         ), kept as (
           select user_id, submission_id as id, total_ms from public.personal_bests where tech_stack_key = ''
         )
         (select user_id::text from (table bests except table kept) as missing)
          union all
         (select user_id::text from (table kept except table bests) as wrong)",
    ),
    (
        "a board that is not the sum of its approved runs",
        "select concat_ws(' ', problem, fact, tech_stack_key, user_id) from private.check_boards()",
    ),
];

/// All runs of a user, in the database, in the form in which the service shows them.
const RUNS: &str = "
    select s.id::text, jsonb_build_object(
             'startTime', private.moment(s.start_time), 'techStack', s.tech_stack, 'status', s.status,
             'endTime', private.moment(s.end_time), 'totalTimeMs', s.total_ms,
             'milestones', coalesce((
               select jsonb_agg(jsonb_build_object(
                        'milestoneNumber', m.milestone_number, 'passed', m.passed,
                        'completedAt', private.moment(m.completed_at)))
                 from public.milestones as m where m.session_id = s.id), '[]'),
             'submission', (
               select jsonb_build_object(
                        'id', h.id, 'revision', h.revision, 'status', h.status,
                        'packages', h.packages, 'videoUrl', h.video_url)
                 from public.submissions as h where h.session_id = s.id))
      from public.sessions as s
     where s.user_id = $1::text::uuid";

/// Looks for the states that must never be in the database.
pub async fn check_invariants(server: &Server, history: &History) -> Result<()> {
    let sql = server.sql("speedcoding").await?;
    for (what, query) in INVARIANTS {
        let found: Vec<String> = sql
            .query(*query, &[])
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        if !found.is_empty() {
            history.violate(Kind::Doubled, None, format!("{what}: {}", found.join(", ")));
        }
    }
    Ok(())
}

/// At the end, the database must hold everything that was acknowledged, and nothing else.
pub async fn check_database(server: &Server, history: &History, client: &Client) -> Result<()> {
    let (sql, known) = (server.sql("speedcoding").await?, &client.known);
    let violate = |kind, text| history.violate(kind, Some(&client.name), text);
    let rows = sql.query(RUNS, &[&known.user]).await?;
    let mut stored = BTreeMap::new();
    for row in rows {
        let Json(shown): Json<Value> = row.get(1);
        stored.insert(row.get::<_, String>(0), Run::read(&shown));
    }
    for (id, run) in &known.runs {
        let Some(Some(stored)) = stored.get(id) else {
            violate(Kind::Lost, format!("session {id} is not in the database"));
            continue;
        };
        if let Some(lost) = run.lost_in(stored) {
            violate(Kind::Lost, format!("session {id} in the database: {lost}"));
        }
    }
    let unknown = stored
        .keys()
        .filter(|id| !known.runs.contains_key(*id))
        .count();
    if unknown > known.unknown_starts {
        violate(
            Kind::Doubled,
            format!(
                "{unknown} sessions that no client started; {} may be starts without an answer",
                known.unknown_starts
            ),
        );
    }

    let sign_ins = "select id::text, generation, revoked_at is not null from private.refresh_tokens
                     where user_id = $1::text::uuid";
    let rows = sql.query(sign_ins, &[&known.user]).await?;
    let stored: BTreeMap<String, (i32, bool)> = rows
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect();
    for (id, sign_in) in &known.sign_ins {
        match (stored.get(id), sign_in.life) {
            (None, _) => violate(Kind::Lost, format!("sign-in {id} is not in the database")),
            (Some((generation, _)), _) if *generation <= sign_in.rotations => {
                let rotations = sign_in.rotations;
                violate(
                    Kind::Lost,
                    format!("sign-in {id} was refreshed {rotations} times and is at {generation}"),
                );
            }
            (Some((_, true)), Life::Alive) => violate(
                Kind::Lost,
                format!("sign-in {id} has ended, but no client ended it"),
            ),
            (Some((_, false)), Life::Ended) => {
                violate(Kind::Lost, format!("sign-in {id} was ended, but lives"))
            }
            _ => {}
        }
    }
    let unknown = stored
        .keys()
        .filter(|id| !known.sign_ins.contains_key(*id))
        .count();
    if unknown > known.unknown_logins {
        violate(
            Kind::Doubled,
            format!(
                "{unknown} sign-ins that no client opened; {} may be logins without an answer",
                known.unknown_logins
            ),
        );
    }

    for (name, id) in &known.others {
        let account = "select from public.users where username = $1 and id = $2::text::uuid";
        if sql.query_opt(account, &[name, id]).await?.is_none() {
            violate(
                Kind::Lost,
                format!("the account {name} ({id}) is not in the database"),
            );
        }
    }
    for (id, (decision, revision)) in &known.decisions {
        let submission =
            "select status::text, revision from public.submissions where id = $1::text::uuid";
        let row = sql.query_opt(submission, &[id]).await?;
        let now: Option<(String, i32)> = row.map(|row| (row.get(0), row.get(1)));
        // A rejected submission can be handed in again, as another revision.
        let stands = now.as_ref().is_some_and(|(status, now)| {
            status == decision || decision == "REJECTED" && i64::from(*now) > *revision
        });
        if !stands {
            violate(
                Kind::Lost,
                format!("submission {id} was {decision} as revision {revision} and is {now:?}"),
            );
        }
    }
    Ok(())
}

/// At the end, both replicas must show everything, and a sign-in that has ended must stay ended.
pub async fn check_replicas(client: &mut Client, replicas: usize) {
    let runs: Vec<_> = client.known.runs.keys().cloned().collect();
    let ended = client.sign_ins(Life::Ended);
    let alive = client.sign_ins(Life::Alive);
    for replica in 0..replicas {
        client.go_to(replica);
        // A refresh that succeeds shows that the sign-in is alive.
        for id in &alive {
            client.refresh(id).await;
        }
        if let Some(sign_in) = client.sign_ins(Life::Alive).first() {
            for id in &runs {
                client.look_at(sign_in, id).await;
            }
        }
        for id in &ended {
            client.try_ended(id).await;
        }
    }
}

/// At the end, the replicas must show the boards that the database holds.
pub async fn check_boards(server: &Server, history: &History, bases: &[String]) -> Result<()> {
    let sql = server.sql("speedcoding").await?;
    let board = "select u.username || ' ' || min(h.total_ms)
                   from public.submissions as h join public.users as u on u.id = h.user_id
                  where h.status = 'APPROVED' group by u.username order by min(h.total_ms), 1";
    let mut expected: Vec<String> = sql
        .query(board, &[])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    expected.sort();
    let http = reqwest::Client::builder().no_proxy().build()?;
    for base in bases {
        let url = format!("{base}/api/v1/leaderboards/{CHALLENGE}?limit=100");
        let shown: Value = http.get(url).send().await?.json().await?;
        let items = shown["items"].as_array().cloned().unwrap_or_default();
        let items = items.iter().map(|item| {
            format!(
                "{} {}",
                item["user"]["username"].as_str().unwrap_or_default(),
                item["totalTimeMs"]
            )
        });
        let mut items: Vec<_> = items.collect();
        items.sort();
        if items != expected {
            history.violate(
                Kind::Lost,
                None,
                format!("{base} shows the board {items:?} instead of {expected:?}"),
            );
        }
    }
    Ok(())
}
