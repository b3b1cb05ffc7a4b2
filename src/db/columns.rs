//! Rust types in columns and parameters that have no type of their own in PostgreSQL: as JSON, and as text.

use std::error::Error;

use bytes::BytesMut;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_postgres::types::{FromSql, IsNull, Json as SqlJson, ToSql, Type, to_sql_checked};

type Failure = Box<dyn Error + Sync + Send>;

/// A column of JSON. SQL's null becomes JSON's null.
pub struct JsonColumn<T>(pub T);

impl<'a, T: DeserializeOwned> FromSql<'a> for JsonColumn<T> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        SqlJson::from_sql(ty, raw).map(|column| JsonColumn(column.0))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(JsonColumn(serde_json::from_value(Value::Null)?))
    }

    fn accepts(ty: &Type) -> bool {
        <SqlJson<T> as FromSql>::accepts(ty)
    }
}

impl<T> From<JsonColumn<Vec<T>>> for Vec<T> {
    fn from(column: JsonColumn<Vec<T>>) -> Self {
        column.0
    }
}

impl<T> From<JsonColumn<Option<T>>> for Option<T> {
    fn from(column: JsonColumn<Option<T>>) -> Self {
        column.0
    }
}

/// An enum by its name, as serde writes it in answers.
#[derive(Debug)]
pub struct TextColumn<T>(pub T);

impl<'a, T: DeserializeOwned> FromSql<'a> for TextColumn<T> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let name = <&str>::from_sql(ty, raw)?;
        Ok(TextColumn(serde_json::from_value(name.into())?))
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql>::accepts(ty)
    }
}

impl<T: Serialize + std::fmt::Debug> ToSql for TextColumn<T> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match serde_json::to_value(&self.0)? {
            Value::String(name) => name.to_sql(ty, out),
            other => Err(format!("{other} is no name").into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}
