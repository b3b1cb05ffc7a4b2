//! Checks PostgREST: whether it answers visitors and our tokens, and whether it serves the same database.

use anyhow::Context;
use tokio_postgres::types::{ToSql, Type};
use url::Url;
use uuid::Uuid;

use super::report::{NTP, Report, Status, judge_skew};
use crate::{
    auth::Auth,
    config::Config,
    db::connect::PostgresUrl,
    error::describe,
    postgrest::{self, Answered, Delegate},
    problem::Problem,
};

pub async fn look_at_postgrest(config: &Config, is_private: bool, report: &mut Report) {
    if config.jwt_secret.is_none() && config.jwt_keys.is_none() {
        let remedy = "set JWT_SECRET: on Supabase to the project's JWT secret, otherwise to the output of `openssl rand -base64 32`";
        return report.fail("keys", "neither JWT_SECRET nor JWT_KEYS is set", [remedy]);
    }
    let prepared = || {
        let upstream = postgrest::upstream(config)?;
        anyhow::Ok((Auth::new(config, None)?, upstream, Delegate::new(config)?))
    };
    let (auth, url, delegate) = match prepared() {
        Ok((auth, Some(url), delegate)) => (auth, url, delegate),
        Ok((_, None, _)) => {
            let remedy = if is_private {
                "put `postgrest` or `postrust` on PATH, or set POSTGREST_URL"
            } else {
                "set POSTGREST_URL or SUPABASE_URL"
            };
            let found = "none: /rest/v1 answers 501";
            return report.advise("postgrest", Status::Note, found, [remedy]);
        }
        Err(error) => {
            let remedy = "correct the setting; `speedcoding --help` explains each one";
            return report.fail("settings", format!("{error:#}"), [remedy]);
        }
    };
    const QUESTION: &str = "/users?select=id&limit=10";
    let asked = async {
        // The token has a sign-in that never existed. PostgREST accepts its signature, and the pre-request refuses it.
        let token = auth
            .access
            .issue(Uuid::nil(), "runner", Uuid::nil(), None)?;
        let visitor = delegate.ask(QUESTION, None).await?;
        if let Some(date) = visitor.date {
            judge_skew("postgrest clock", "PostgREST's", date, report);
        }
        // If visitors get an error, all callers get it, and it says nothing about keys.
        if judge_visitor(config, &url, &visitor, report) {
            compare_databases(config, &url, &visitor, report).await;
            judge_visitors_role(config, &delegate, report).await?;
            let signed_in = delegate.ask(QUESTION, Some(&token)).await?;
            judge_token(config, &signed_in, report);
        }
        Ok(())
    };
    let asked: Result<(), Problem> = asked.await;
    if let Err(problem) = asked {
        let cause = std::error::Error::source(&problem).map(describe);
        let cause = cause.unwrap_or_else(|| problem.to_string());
        let remedy = if is_private {
            "start it, or correct POSTGREST_URL; if the service started it, postgrest.log in DATA_DIR says why it \
             ended"
        } else {
            "start it, or correct POSTGREST_URL or SUPABASE_URL"
        };
        let found = format!("{url} does not answer: {cause}");
        report.fail("postgrest", found, [remedy]);
    }
}

const ANON_ROLE: &str = "set PGRST_DB_ANON_ROLE=anon in PostgREST's own settings";
const GRANT: &str = "as the owner: grant anon, authenticated, service_role to authenticator; PGRST_DB_ANON_ROLE must be anon";
const SECRET: &str = "JWT_SECRET must be the secret that PostgREST verifies with: on Supabase the project's JWT secret \
     (Project Settings, JWT keys), with your own PostgREST its PGRST_JWT_SECRET";
const PUBLIC_KEYS: &str = "with JWT_KEYS, PostgREST verifies with their public set: docs/keys.md";
const HIDDEN: &str = "hides the errors of the database";
const VERBATIM: &str = "start postrust with PGRST_DB_ERRORS_VERBATIM=true; its log says more";

/// Whether a code is one with which postrust hides an error of the database. PostgREST passes the error on.
fn is_hiding(code: &str) -> bool {
    matches!(code, "PGRST500" | "PGRST503" | "PGRST504" | "PGRST505")
}

/// Judges the answer to a visitor without a token, and returns whether it was a good one.
fn judge_visitor(config: &Config, url: &Url, answer: &Answered, report: &mut Report) -> bool {
    let (found, remedy) = match (answer.status, answer.code()) {
        (200, _) => {
            report.add("postgrest", Status::Ok, format!("{url} answers visitors"));
            return true;
        }
        (_, code) if is_hiding(code) => (HIDDEN, VERBATIM),
        (_, "PGRST302") => ("has no role for visitors", ANON_ROLE),
        // The pre-request looks for the sign-in of a visitor.
        (401, "PT401") => ("takes visitors for authenticated", be_anon(config)),
        (_, "42883" | "3F000") => (
            "calls a pre-request that its database does not have",
            "its PGRST_DB_PRE_REQUEST must be speedcoding.check_request, and it must serve the database that is migrated",
        ),
        // The role for visitors does not exist, or PostgREST's login may not become it.
        (_, "22023" | "42501") if answer.message().contains("role \"") => {
            ("cannot become the role for visitors", GRANT)
        }
        (_, "42501") => (
            "may not read public.users for visitors",
            "see `privileges` above; PostgREST's role for visitors must be anon (PGRST_DB_ANON_ROLE)",
        ),
        (401 | 403, _) => (
            "refuses visitors",
            "SUPABASE_ANON_KEY must be this project's publishable (anon) key",
        ),
        (_, "PGRST205" | "42P01") => (
            "does not know public.users",
            "as the owner: notify pgrst, 'reload schema'; PostgREST must serve this database, with public among its \
             schemas (PGRST_DB_SCHEMAS)",
        ),
        (404, _) if config.postgrest_url.is_none() => (
            "is not PostgREST",
            "SUPABASE_URL must name the project, such as https://abcdefghijklmnopqrst.supabase.co",
        ),
        (404, _) => (
            "is not PostgREST",
            "POSTGREST_URL must name its root, such as http://127.0.0.1:3000; the root of postrust ends in /api",
        ),
        _ => ("fails", "PostgREST's own log says why"),
    };
    report.fail("postgrest", format!("{url} {found}: {answer}"), [remedy]);
    false
}

/// Checks that a visitor is `anon` there. Everybody else may read more.
async fn judge_visitors_role(
    config: &Config,
    delegate: &Delegate,
    report: &mut Report,
) -> Result<(), Problem> {
    let reads = async |relation: &str| {
        let answer = delegate.ask(&format!("/{relation}?limit=0"), None).await?;
        Ok::<_, Problem>((200..300).contains(&answer.status))
    };
    let role = if reads("bans").await? {
        "service_role, or another that the policies do not hold"
    } else if reads("review_queue").await? {
        "authenticated"
    } else {
        return Ok(());
    };
    let found =
        format!("PostgREST takes visitors for {role}, so they read what is not for everybody");
    report.fail("visitors", found, [be_anon(config)]);
    Ok(())
}

/// The remedy that makes visitors `anon`.
fn be_anon(config: &Config) -> &'static str {
    if config.postgrest_url.is_some() {
        ANON_ROLE
    } else {
        "SUPABASE_ANON_KEY must be this project's publishable (anon) key, and no secret one"
    }
}

/// Checks that our database knows the users that PostgREST shows. If PostgREST shows no user, nothing is checked.
async fn compare_databases(config: &Config, url: &Url, answer: &Answered, report: &mut Report) {
    let known: Vec<&str> = answer
        .body
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|user| user["id"].as_str())
        .collect();
    let counted = async {
        let database = config.database_url.as_ref().context("no database")?;
        let (client, _) = PostgresUrl::parse(database)?.connect().await?;
        let params: [(&(dyn ToSql + Sync), Type); 1] = [(&known, Type::TEXT_ARRAY)];
        let own = client
            .query_typed_one(
                "select count(*) from public.users where id::text = any ($1)",
                &params,
            )
            .await?;
        anyhow::Ok(own.get::<_, i64>(0))
    };
    // One user may have been deleted meanwhile, but not all of them.
    if !known.is_empty() && matches!(counted.await, Ok(0)) {
        report.fail(
            "postgrest",
            format!(
                "{url} serves another database: it shows users that DATABASE_URL does not have"
            ),
            ["let both use the same database; PostgREST's own setting is PGRST_DB_URI"],
        );
    }
}

/// Judges the answer to a token of ours whose sign-in never existed.
fn judge_token(config: &Config, answer: &Answered, report: &mut Report) {
    const ACCEPTED: &str = "PostgREST accepts our tokens";
    match (answer.status, answer.code()) {
        (401, "PT401") => {
            report.add("keys", Status::Ok, ACCEPTED);
            report.add(
                "pre-request",
                Status::Ok,
                "PostgREST checks that a sign-in is alive",
            );
        }
        (200, _) => {
            report.add("keys", Status::Ok, ACCEPTED);
            let found =
                "at PostgREST's own address, a token of an ended sign-in works until it expires";
            let remedies = [
                "alter role authenticator set pgrst.db_pre_request = 'speedcoding.check_request';",
                "notify pgrst, 'reload config';",
                "if that is not permitted, set PGRST_DB_PRE_REQUEST=speedcoding.check_request in PostgREST's own settings",
            ];
            report.advise("pre-request", Status::Warning, found, remedies);
        }
        (_, "22023" | "42501") if answer.message().contains("role \"") => {
            let found = format!("PostgREST cannot become the role of our tokens: {answer}");
            report.fail("postgrest", found, [GRANT]);
        }
        (_, "42501") => {
            let remedies = ["see `privileges` and `owners` above"];
            report.fail(
                "pre-request",
                format!("PostgREST may not check sign-ins: {answer}"),
                remedies,
            );
        }
        // The pre-request or something else in the database refused. That says nothing about keys.
        (_, code) if is_hiding(code) => {
            let found = format!("PostgREST {HIDDEN}, such as why a token is refused: {answer}");
            report.fail("errors", found, [VERBATIM]);
        }
        (_, "PGRST300") => {
            let found = "PostgREST has no key to verify tokens with";
            report.fail("keys", found, [SECRET, PUBLIC_KEYS]);
        }
        (401, _) if answer.message().contains("audience") => {
            let found = format!("PostgREST expects tokens for another audience: {answer}");
            let remedy =
                "set PGRST_JWT_AUD=authenticated in PostgREST's own settings, or leave it out";
            report.fail("audience", found, [remedy]);
        }
        (401, _)
            if ["expired", "not yet valid", "in the future", "at future"]
                .iter()
                .any(|time| answer.message().contains(time)) =>
        {
            let found = format!("PostgREST refuses a token that was made just now: {answer}");
            report.fail("postgrest clock", found, [NTP]);
        }
        (401, _) => {
            let mut remedies = [SECRET, PUBLIC_KEYS];
            if config.jwt_keys.is_some() {
                remedies.reverse();
            }
            report.fail(
                "keys",
                format!("PostgREST refuses our tokens: {answer}"),
                remedies,
            );
        }
        _ => {
            let remedies = ["PostgREST's own log says why"];
            report.fail(
                "keys",
                format!("PostgREST answers our tokens with {answer}"),
                remedies,
            );
        }
    }
}
