//! Boards: the ranked best run of each runner, the caller's own rank, and the history of the record.

use std::{fmt, str::FromStr, sync::Arc};

use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    param::{Header, Path, Query},
};
use postgres_from_row::FromRow;
use serde::Serialize;
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    tag::Tag,
    types::{Cacheable, List, Page, Timestamp, known_versions, page_size},
};
use crate::{
    db::query,
    http::bearer::SignedIn,
    openapi::{body::Json, codes::Refusals},
    problem::Problem,
    state::State,
};

/// Operations under `/leaderboards`.
pub struct LeaderboardsApi;

/// The runner of a run.
#[derive(Debug, Object, FromRow, Serialize)]
pub struct Runner {
    #[from_row(rename = "user_id")]
    pub id: Uuid,
    pub username: String,
}

/// A runner's best run on a board.
#[derive(Debug, Object, FromRow, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct BoardItem {
    /// One more than the number of faster runs. Equal times share a rank (1, 2, 2, 4).
    pub rank: i64,
    #[from_row(flatten)]
    pub user: Runner,
    pub session_id: Uuid,
    pub tech_stack: String,
    /// The time that is ranked, in milliseconds. Of equal times, the run that ended earlier stands first.
    #[from_row(rename = "total_ms")]
    pub total_time_ms: i64,
    /// The same time for people, such as `45m 12s`.
    pub total_time: String,
    pub packages: Vec<String>,
    #[oai(nullable)]
    pub video_url: Option<String>,
    pub submitted_at: Timestamp,
}

/// The caller's own place on a board.
#[derive(Debug, Object, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The rank, or null without an approved run on this board.
    #[oai(nullable)]
    pub rank: Option<i64>,
    /// The number of runners on this board.
    pub of: i64,
    /// The ranked run.
    #[oai(nullable)]
    pub best: Option<BoardItem>,
}

/// A run that beat all runs before it when it ended.
#[derive(Debug, Object, FromRow, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Record {
    #[from_row(flatten)]
    pub user: Runner,
    pub session_id: Uuid,
    pub tech_stack: String,
    #[from_row(rename = "total_ms")]
    pub total_time_ms: i64,
    /// The same time for people, such as `45m 12s`.
    pub total_time: String,
    /// By how many milliseconds it beat the record before it; null for the first record.
    #[oai(nullable)]
    pub improved_by_ms: Option<i64>,
    /// When the run ended.
    #[from_row(rename = "end_time")]
    pub achieved_at: Timestamp,
    #[oai(nullable)]
    pub video_url: Option<String>,
}

/// The refusals of each operation, beyond those that all operations have in common.
pub const REFUSALS: &[Refusals] = &[
    (
        "get_leaderboard",
        &["challenge_not_found", "challenge_not_ranked"],
    ),
    (
        "get_standing",
        &["challenge_not_found", "challenge_not_ranked"],
    ),
    (
        "list_records",
        &["challenge_not_found", "challenge_not_ranked"],
    ),
];

#[OpenApi(prefix_path = "/leaderboards", tag = "Tag::Leaderboards")]
impl LeaderboardsApi {
    /// Get a leaderboard
    ///
    /// The best approved run of each runner, the fastest first. Approvals, rejections and corrections show at once. A
    /// client that follows the cursors meets every run that stays on the board exactly once, even if others arrive.
    #[oai(path = "/:slug", method = "get", operation_id = "get_leaderboard")]
    async fn get_leaderboard(
        &self,
        state: Data<&Arc<State>>,
        /// The challenge, such as `slack-clone`.
        slug: Path<String>,
        /// Only runs with this tech stack, in any order and spelling: `Rust, Postgres` is the same as `postgres +
        /// rust`.
        #[oai(
            name = "techStack",
            validator(min_length = 1, max_length = 100, pattern = "\\S")
        )]
        tech_stack: Query<Option<String>>,
        /// The maximum number of items.
        #[oai(
            default = "page_size",
            validator(minimum(value = "1"), maximum(value = "100"))
        )]
        limit: Query<i32>,
        /// The `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// The `ETag` of an earlier answer: 304 if nothing has changed since.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<Cacheable<Page<BoardItem>>, Problem> {
        let list = List::of("get_leaderboard", &(&slug.0, &tech_stack.0));
        let after: Option<BoardCursor> = list.key(cursor.0.as_deref())?;
        let rows: Vec<Versioned<Placed>> = state
            .db
            .list(
                None,
                &query::GET_LEADERBOARD,
                &[
                    &slug.0,
                    &tech_stack.0,
                    &known_versions(if_none_match.0.as_deref()),
                    &(limit.0 + 1),
                    &after.as_ref().map(|after| after.total_ms),
                    &after.as_ref().map(|after| after.end_time),
                    &after.as_ref().map(|after| after.id),
                ],
            )
            .await?;
        let (version, placed) = split(rows);
        let last = usize::try_from(limit.0 - 1)
            .ok()
            .and_then(|last| placed.get(last));
        let last = last
            .map(|last| last.position.to_string())
            .unwrap_or_default();
        let items = placed.into_iter().map(|placed| placed.item).collect();
        let page = list.page(items, limit.0, |_| last.clone());
        Ok(Cacheable::at_version(
            page,
            version,
            if_none_match.0.as_deref(),
        ))
    }

    /// Get your own rank
    ///
    /// Your place on a board, and the number of runners on it.
    #[oai(path = "/:slug/me", method = "get", operation_id = "get_standing")]
    async fn get_standing(
        &self,
        state: Data<&Arc<State>>,
        caller: SignedIn,
        /// The challenge, such as `slack-clone`.
        slug: Path<String>,
        /// The board of this tech stack, in any order and spelling.
        #[oai(
            name = "techStack",
            validator(min_length = 1, max_length = 100, pattern = "\\S")
        )]
        tech_stack: Query<Option<String>>,
    ) -> Result<Json<Standing>, Problem> {
        state
            .db
            .call(
                Some(&caller.0),
                &query::GET_STANDING,
                &[&slug.0, &tech_stack.0],
            )
            .await
            .map(Json)
    }

    /// List a board's records
    ///
    /// Every record, the current one first. Only runs that count now are considered.
    #[oai(path = "/:slug/records", method = "get", operation_id = "list_records")]
    async fn list_records(
        &self,
        state: Data<&Arc<State>>,
        /// The challenge, such as `slack-clone`.
        slug: Path<String>,
        /// The board of this tech stack, in any order and spelling.
        #[oai(
            name = "techStack",
            validator(min_length = 1, max_length = 100, pattern = "\\S")
        )]
        tech_stack: Query<Option<String>>,
        /// The maximum number of items.
        #[oai(
            default = "page_size",
            validator(minimum(value = "1"), maximum(value = "100"))
        )]
        limit: Query<i32>,
        /// The `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// The `ETag` of an earlier answer: 304 if nothing has changed since.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<Cacheable<Page<Record>>, Problem> {
        let list = List::of("list_records", &(&slug.0, &tech_stack.0));
        let before: Option<i64> = list.key(cursor.0.as_deref())?;
        let rows: Vec<Versioned<Record>> = state
            .db
            .list(
                None,
                &query::LIST_RECORDS,
                &[
                    &slug.0,
                    &tech_stack.0,
                    &known_versions(if_none_match.0.as_deref()),
                    &(limit.0 + 1),
                    &before,
                ],
            )
            .await?;
        let (version, records) = split(rows);
        let page = list.page(records, limit.0, |record: &Record| {
            record.total_time_ms.to_string()
        });
        Ok(Cacheable::at_version(
            page,
            version,
            if_none_match.0.as_deref(),
        ))
    }
}

/// A row that the database returns for a board: the board's version, and an entry if the row has one.
struct Versioned<T> {
    version: i64,
    entry: Option<T>,
}

/// Returns the version, which is the same in all rows, and the entries.
fn split<T>(rows: Vec<Versioned<T>>) -> (i64, Vec<T>) {
    let version = rows.first().map_or(0, |row| row.version);
    (
        version,
        rows.into_iter().filter_map(|row| row.entry).collect(),
    )
}

/// An entry with its place in the order. A cursor stands for that place.
#[derive(FromRow)]
struct Placed {
    #[from_row(flatten)]
    position: BoardCursor,
    #[from_row(flatten)]
    item: BoardItem,
}

/// A cursor of a board: the place of an entry in the order. It does not depend on the entries before it.
#[derive(FromRow)]
struct BoardCursor {
    total_ms: i64,
    end_time: OffsetDateTime,
    #[from_row(rename = "submission_id")]
    id: Uuid,
}

impl fmt::Display for BoardCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.end_time.unix_timestamp_nanos() / 1000;
        write!(f, "{}.{micros}.{}", self.total_ms, self.id)
    }
}

impl FromStr for BoardCursor {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().unwrap_or_default();
        Ok(BoardCursor {
            total_ms: part().parse()?,
            end_time: OffsetDateTime::from_unix_timestamp_nanos(
                i128::from(part().parse::<i64>()?) * 1000,
            )?,
            id: part().parse()?,
        })
    }
}

impl<T: FromRow> FromRow for Versioned<T> {
    #[expect(
        clippy::expect_used,
        reason = "the trait asks for it; nothing here calls it"
    )]
    fn from_row(row: &Row) -> Self {
        Self::try_from_row(row).expect("a row with a version")
    }

    fn try_from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let has_entry = row.try_get::<_, Option<Uuid>>("session_id")?.is_some();
        Ok(Versioned {
            version: row.try_get("version")?,
            entry: has_entry.then(|| T::try_from_row(row)).transpose()?,
        })
    }
}

impl FromRow for Standing {
    #[expect(
        clippy::expect_used,
        reason = "the trait asks for it; nothing here calls it"
    )]
    fn from_row(row: &Row) -> Self {
        Self::try_from_row(row).expect("a row of private.board_result")
    }

    fn try_from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let best = Versioned::<BoardItem>::try_from_row(row)?.entry;
        Ok(Standing {
            rank: best.as_ref().map(|best| best.rank),
            of: row.try_get("entries")?,
            best,
        })
    }
}
