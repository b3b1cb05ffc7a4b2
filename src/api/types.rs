//! Types that several operations share: times, pages, and answers that can be cached.

use std::{borrow::Cow, fmt, str::FromStr};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use poem_openapi::{
    ApiResponse, Object,
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use time::{
    OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::format_description,
};
use tokio_postgres::types::FromSql;

use crate::{openapi::body::Json, problem::Problem};

/// A moment: RFC 3339, UTC, always with milliseconds: `2026-01-31T12:00:00.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    fn text(&self) -> Result<String, time::error::Format> {
        let format = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        self.0.to_offset(UtcOffset::UTC).format(format)
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(moment: Timestamp) -> Self {
        moment.0
    }
}

impl ToJSON for Timestamp {
    fn to_json(&self) -> Option<Value> {
        self.text().ok().map(Value::String)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text().map_err(serde::ser::Error::custom)?)
    }
}

impl Type for Timestamp {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "timestamp".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            example: Some("2026-01-31T12:00:00.000Z".into()),
            ..MetaSchema::new_with_format("string", "date-time")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for Timestamp {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::custom)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339)
            .map(Timestamp)
            .map_err(serde::de::Error::custom)
    }
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(
        ty: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        OffsetDateTime::from_sql(ty, raw).map(Timestamp)
    }

    fn accepts(ty: &tokio_postgres::types::Type) -> bool {
        <OffsetDateTime as FromSql>::accepts(ty)
    }
}

/// 201 with the new object.
#[derive(ApiResponse)]
pub enum Created<T: ToJSON + Serialize> {
    /// Created.
    #[oai(status = 201)]
    Created(Json<T>),
}

/// 204 without a body.
#[derive(ApiResponse)]
pub enum Done {
    /// Done.
    #[oai(status = 204)]
    Done,
}

/// A page of a list.
#[derive(Object, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct Page<T: ParseFromJSON + ToJSON + Type> {
    pub items: Vec<T>,
    /// Send it as `cursor` to get the next page. It is null on the last page.
    #[oai(nullable)]
    pub next_cursor: Option<String>,
}

/// A list. Its cursors name it by the operation and its filters.
pub struct List {
    tag: [u8; LIST_TAG],
}

/// The number of bytes of a cursor that name its list.
const LIST_TAG: usize = 6;

impl List {
    /// The list of an operation with these filters.
    pub fn of(operation: &str, filters: &impl fmt::Debug) -> Self {
        let name = format!("{operation} {filters:?}");
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        let mut tag = [0; LIST_TAG];
        for (byte, first) in tag.iter_mut().zip(digest.as_ref()) {
            *byte = *first;
        }
        List { tag }
    }

    /// The key that a cursor of this list stands for. A cursor of another list is refused.
    pub fn key<K: FromStr>(&self, cursor: Option<&str>) -> Result<Option<K>, Problem> {
        let refuse = |code, message| Problem::invalid_field("cursor", code, message);
        let Some(cursor) = cursor else {
            return Ok(None);
        };
        let format = || refuse("format", "is not the `nextCursor` of a page");
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| format())?;
        let (tag, key) = bytes.split_first_chunk().ok_or_else(format)?;
        let key = str::from_utf8(key).ok().filter(|key| !key.contains('\0'));
        let key = key.ok_or_else(format)?;
        if *tag != self.tag {
            return Err(refuse(
                "other_list",
                "belongs to another list: send it with the filters of the page that it came from",
            ));
        }
        key.parse().map(Some).map_err(|_| format())
    }

    /// A page of at most `limit` items. The database was asked for `limit + 1`: the extra item tells that there are
    /// more. The cursor is the last item's key, opaque to clients.
    pub fn page<T: ParseFromJSON + ToJSON + Type>(
        &self,
        mut items: Vec<T>,
        limit: i32,
        key: impl Fn(&T) -> String,
    ) -> Page<T> {
        let limit = usize::try_from(limit).unwrap_or_default();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items
            .last()
            .filter(|_| more)
            .map(|last| URL_SAFE_NO_PAD.encode([&self.tag[..], key(last).as_bytes()].concat()));
        Page { items, next_cursor }
    }
}

/// The number of items on a page if the request sets no limit.
pub fn page_size() -> i32 {
    20
}

/// An answer that a client may keep. The client can ask later whether it is still current (RFC 9110, section 8.8.3).
#[derive(ApiResponse)]
pub enum Cacheable<T: ToJSON + Serialize> {
    /// The current state.
    #[oai(status = 200)]
    Current(
        Json<T>,
        /// Names this state. Send it as `If-None-Match`.
        #[oai(header = "ETag")]
        String,
    ),
    /// Nothing has changed since the `ETag` that was sent.
    #[oai(status = 304)]
    Unchanged(
        /// Names this state. Send it as `If-None-Match`.
        #[oai(header = "ETag")]
        String,
    ),
}

impl<T: ToJSON + Serialize> Cacheable<T> {
    /// The answer, or 304 if the client has it.
    pub fn of(value: T, if_none_match: Option<&str>) -> Self {
        let json = value.to_json_string();
        let digest = digest::digest(&digest::SHA256, json.as_bytes());
        let tag = URL_SAFE_NO_PAD.encode(digest.as_ref());
        Self::tagged(value, &tag, if_none_match)
    }

    /// The same for a state that has a version number in the database. Another version is another state.
    pub fn at_version(value: T, version: i64, if_none_match: Option<&str>) -> Self {
        Self::tagged(value, &version.to_string(), if_none_match)
    }

    /// The tag is weak, because the same answer may be compressed.
    fn tagged(value: T, tag: &str, if_none_match: Option<&str>) -> Self {
        let known = known_tags(if_none_match).any(|known| known == tag || known == "*");
        let tag = format!("W/\"{tag}\"");
        if known {
            Cacheable::Unchanged(tag)
        } else {
            Cacheable::Current(Json(value), tag)
        }
    }
}

fn known_tags(if_none_match: Option<&str>) -> impl Iterator<Item = &str> {
    if_none_match
        .into_iter()
        .flat_map(|tags| tags.split(','))
        .map(|known| known.trim().trim_start_matches("W/").trim_matches('"'))
}

/// The versions that the client has. The database need not read the content of these versions again.
pub fn known_versions(if_none_match: Option<&str>) -> Vec<i64> {
    known_tags(if_none_match)
        .filter_map(|known| known.parse().ok())
        .collect()
}
