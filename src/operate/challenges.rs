//! Loads a challenge that was read from a file into the database.

use std::fmt::{self, Display, Formatter};

use postgres_from_row::FromRow;
use secrecy::SecretString;
use tokio_postgres::{
    Client, Error, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::challenge_file::{Challenge, Variant};
use crate::db::{columns::TextColumn, connect::once};

const LOAD_CHALLENGE: &str = include_str!("../../sql/owner/load_challenge.sql");
const LOAD_INPUTS: &str = include_str!("../../sql/owner/load_inputs.sql");
const RETIRE_INPUTS: &str = include_str!("../../sql/owner/retire_inputs.sql");

/// The lock that lets only one load run at a time.
const BEGIN: &str =
    "begin; select pg_advisory_xact_lock(hashtextextended('speedcoding challenges load', 0))";

/// The maximum number of inputs in a statement, and about the maximum number of bytes.
const BATCH: (usize, usize) = (1000, 4 << 20);

/// Why the database refused the challenge, in a sentence for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// The changes that a load made.
pub struct Loaded {
    slug: String,
    challenge: Outcome,
    inputs_added: i64,
    inputs_retired: i64,
}

#[derive(FromRow)]
struct Outcome {
    id: Uuid,
    is_new: bool,
    changed: bool,
    milestones_added: i64,
    milestones_changed: i64,
    milestones_removed: i64,
}

impl Display for Loaded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Loaded {
            slug, challenge, ..
        } = self;
        let counts = [
            (challenge.milestones_added, "milestone", "added"),
            (challenge.milestones_changed, "milestone", "changed"),
            (challenge.milestones_removed, "milestone", "removed"),
            (self.inputs_added, "input", "added"),
            (self.inputs_retired, "input", "retired"),
        ];
        let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, what, how)| {
                let s = if count == 1 { "" } else { "s" };
                format!("{count} {what}{s} {how}")
            })
            .collect();
        let challenge = match challenge {
            Outcome { is_new: true, .. } => "is new",
            Outcome { changed: true, .. } => "has changed",
            _ if counts.is_empty() => {
                return write!(f, "{slug} is already loaded; nothing has changed.");
            }
            _ => "stays",
        };
        write!(
            f,
            "{}.",
            [&[format!("{slug} {challenge}")], counts.as_slice()]
                .concat()
                .join(", ")
        )
    }
}

/// Stores this challenge in one transaction, as the owner that the URL names. Calls `progress` with the number of
/// inputs that were sent and the number of all inputs.
pub async fn load(
    owner_url: &SecretString,
    challenge: &Challenge,
    progress: impl Fn(usize, usize),
) -> anyhow::Result<Result<Loaded, Refused>> {
    once(owner_url, async |client| {
        // A refusal is for people. The details of other errors might hold an input, so they are left out.
        match write(client, challenge, progress).await {
            Err(error) => match error.as_db_error() {
                Some(refusal) => Ok(Err(Refused(refusal.message().to_owned()))),
                None => Err(error),
            },
            Ok(loaded) => Ok(Ok(loaded)),
        }
    })
    .await
}

async fn write(
    client: &Client,
    challenge: &Challenge,
    progress: impl Fn(usize, usize),
) -> Result<Loaded, Error> {
    client.batch_execute(BEGIN).await?;
    let milestones = &challenge.milestones;
    let numbers: Vec<_> = milestones.iter().map(|m| m.number).collect();
    let titles: Vec<_> = milestones.iter().map(|m| &m.title).collect();
    let descriptions: Vec<_> = milestones.iter().map(|m| &m.description).collect();
    let verifications: Vec<_> = milestones
        .iter()
        .map(|m| TextColumn(m.verification))
        .collect();
    let row = one(
        client,
        LOAD_CHALLENGE,
        &[
            (&challenge.slug, Type::TEXT),
            (&challenge.title, Type::TEXT),
            (&challenge.description, Type::TEXT),
            (&challenge.required_milestones, Type::INT4),
            (&challenge.ordered, Type::BOOL),
            (&challenge.ranked, Type::BOOL),
            (&challenge.max_duration, Type::FLOAT8),
            (&challenge.active, Type::BOOL),
            (&numbers, Type::INT4_ARRAY),
            (&titles, Type::TEXT_ARRAY),
            (&descriptions, Type::TEXT_ARRAY),
            (&verifications, Type::TEXT_ARRAY),
        ],
    )
    .await?;
    let outcome = Outcome::try_from_row(&row)?;

    let mut inputs = Vec::new();
    for milestone in milestones {
        inputs.extend(
            milestone
                .variants
                .iter()
                .map(|variant| (milestone.number, variant)),
        );
    }
    let (mut rest, mut kept, mut inputs_added) = (inputs.as_slice(), Vec::<Uuid>::new(), 0);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(batch_length(rest));
        let numbers: Vec<_> = batch.iter().map(|(number, _)| number).collect();
        let texts: Vec<_> = batch.iter().map(|(_, variant)| &variant.input).collect();
        let answers: Vec<_> = batch.iter().map(|(_, variant)| &variant.answer).collect();
        let row = one(
            client,
            LOAD_INPUTS,
            &[
                (&outcome.id, Type::UUID),
                (&numbers, Type::INT4_ARRAY),
                (&texts, Type::TEXT_ARRAY),
                (&answers, Type::TEXT_ARRAY),
            ],
        )
        .await?;
        kept.extend(row.try_get::<_, Vec<Uuid>>("kept")?);
        inputs_added += row.try_get::<_, i64>("added")?;
        rest = later;
        progress(inputs.len() - rest.len(), inputs.len());
    }
    let retired = one(
        client,
        RETIRE_INPUTS,
        &[(&outcome.id, Type::UUID), (&kept, Type::UUID_ARRAY)],
    )
    .await?;
    client.batch_execute("commit").await?;
    Ok(Loaded {
        slug: challenge.slug.clone(),
        challenge: outcome,
        inputs_added,
        inputs_retired: retired.try_get("retired")?,
    })
}

async fn one(
    client: &Client,
    sql: &str,
    params: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Row, Error> {
    client.query_typed_one(sql, params).await
}

/// The number of inputs in the next statement, at least one.
fn batch_length(inputs: &[(i32, &Variant)]) -> usize {
    let mut size = 0;
    let fitting = inputs.iter().take(BATCH.0).take_while(|(_, variant)| {
        size += variant.input.len() + variant.answer.len();
        size <= BATCH.1
    });
    fitting.count().max(1)
}
