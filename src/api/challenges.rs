//! Challenges: what runners build against the clock.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Header, Path, Query},
};
use postgres_from_row::FromRow;
use serde::{Deserialize, Serialize};

use super::{
    tag::Tag,
    types::{Cacheable, List, Page, page_size},
};
use crate::{
    db::{columns::JsonColumn, query},
    openapi::codes::Refusals,
    problem::Problem,
    state::State,
};

/// Operations under `/challenges`.
pub struct ChallengesApi;

/// Who judges a milestone. `manual`: the runner says that it is passed. `answer`: the runner's answer is compared with the
/// right one. `verifier`: the milestone is pending until a verifier attests it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Verification {
    /// The runner says that it is passed.
    Manual,
    /// The runner's answer is compared with the right one.
    Answer,
    /// A verifier attests that it is passed.
    Verifier,
}

/// A milestone of a challenge.
#[derive(Debug, Object, Serialize, Deserialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct MilestoneDefinition {
    /// Its number in the challenge, from 1.
    pub number: i32,
    /// What the runner has built when it is passed.
    pub title: String,
    /// How to tell that it is passed, in Markdown.
    pub description: String,
    pub verification: Verification,
}

/// A challenge: runners build it against the clock.
#[derive(Debug, Object, FromRow, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Challenge {
    /// Its name in requests and URLs.
    pub slug: String,
    pub title: String,
    /// What runners build, in Markdown.
    pub description: String,
    /// How many milestones a session must pass to be completed.
    pub required_milestones: i32,
    /// Whether milestone N needs all milestones before it.
    pub ordered: bool,
    /// Whether approved runs are ranked.
    pub ranked: bool,
    /// The time after which a running session expires, in milliseconds.
    pub max_duration_ms: i64,
    #[from_row(from = "JsonColumn<Vec<MilestoneDefinition>>")]
    pub milestones: Vec<MilestoneDefinition>,
}

/// The refusals of each operation, beyond those that all operations have in common.
pub const REFUSALS: &[Refusals] = &[("get_challenge", &["challenge_not_found"])];

#[OpenApi(prefix_path = "/challenges", tag = "Tag::Challenges")]
impl ChallengesApi {
    /// List challenges
    ///
    /// The challenges that can be started, by slug.
    #[oai(path = "/", method = "get", operation_id = "list_challenges")]
    async fn list_challenges(
        &self,
        state: Data<&Arc<State>>,
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
    ) -> Result<Cacheable<Page<Challenge>>, Problem> {
        let list = List::of("list_challenges", &());
        let after: Option<String> = list.key(cursor.0.as_deref())?;
        let challenges = state
            .db
            .list(None, &query::LIST_CHALLENGES, &[&(limit.0 + 1), &after])
            .await?;
        let page = list.page(challenges, limit.0, |challenge: &Challenge| {
            challenge.slug.clone()
        });
        Ok(Cacheable::of(page, if_none_match.0.as_deref()))
    }

    /// Get a challenge
    ///
    /// A challenge with its rules, and its milestones by number.
    #[oai(path = "/:slug", method = "get", operation_id = "get_challenge")]
    async fn get_challenge(
        &self,
        state: Data<&Arc<State>>,
        /// The slug of the challenge, such as `slack-clone`.
        slug: Path<String>,
        /// The `ETag` of an earlier answer: 304 if nothing has changed since.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<Cacheable<Challenge>, Problem> {
        let challenge: Challenge = state
            .db
            .call(None, &query::GET_CHALLENGE, &[&slug.0])
            .await?;
        Ok(Cacheable::of(challenge, if_none_match.0.as_deref()))
    }
}
