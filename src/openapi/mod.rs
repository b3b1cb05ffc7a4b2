//! The OpenAPI document, and the checks of requests against it.
#![expect(
    clippy::indexing_slicing,
    reason = "the document is our own, and an absent member of a JSON value is null"
)]

pub mod body;
pub mod codes;
mod complete;

use std::collections::{BTreeSet, HashMap};

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use percent_encoding::percent_decode_str;
use poem::http::Method;
use poem_openapi::{
    OpenApi, OpenApiService, OperationId,
    error::{ParseParamError, ParsePathError},
};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use self::codes::Refusals;
use crate::{
    auth::password,
    problem::{FieldError, Problem},
};

/// The maximum number of mistakes in an answer. The answer must not be larger than the request.
const MOST_ERRORS: usize = 100;
/// The maximum length of a name in an answer. An unknown name may be a megabyte long.
const LONGEST_NAME: usize = 100;

/// The patterns of the document, in words.
const PATTERNS: [(&str, &str); 4] = [
    (
        r"^[A-Za-z0-9_-]{3,32}$",
        "3 to 32 letters (A to Z, a to z), digits, _ or -",
    ),
    (r"^[a-z0-9]+(-[a-z0-9]+)*$", "a slug, such as slack-clone,"),
    (r"\S", "visible text"),
    (complete::VISIBLE, "visible text"),
];

/// The published document, and its checks.
pub struct Contract {
    document: Value,
    bodies: HashMap<String, Validator>,
}

impl Contract {
    /// Reads the document of a service, and prepares the checks of bodies.
    pub fn of<T: OpenApi, W: poem_openapi::Webhook>(
        service: &OpenApiService<T, W>,
        refusals: &[Refusals],
    ) -> anyhow::Result<Self> {
        let mut document: Value = serde_json::from_str(&service.spec())?;
        let names = body_schemas(&document);
        complete::complete(&mut document, &names, refusals)?;
        let bodies = names
            .iter()
            .map(|name| Ok((name.clone(), body_validator(&document, name)?)))
            .collect::<anyhow::Result<_>>()?;
        complete::say_what_text_is(&mut document, &names);
        Ok(Contract { document, bodies })
    }

    /// The document as JSON.
    pub fn json(&self) -> String {
        format!("{:#}\n", self.document)
    }

    /// The document as YAML.
    pub fn yaml(&self) -> anyhow::Result<String> {
        let yaml = serde_yaml_ng::to_string(&self.document)?;
        // Readers of YAML 1.1 take a bare time for a date instead of text.
        let quote = |line: &str| match line.split_once(": ") {
            Some((name, moment)) if is_moment(moment) => format!("{name}: '{moment}'\n"),
            _ => format!("{line}\n"),
        };
        Ok(yaml.lines().map(quote).collect())
    }

    /// The methods that a path beneath the API's base takes, as the header `Allow` lists them.
    pub fn allowed(&self, path: &str) -> Option<String> {
        let (_, methods) = self.template(path)?;
        let mut allowed: Vec<_> = methods
            .as_object()?
            .keys()
            .map(|method| method.to_uppercase())
            .collect();
        if allowed.iter().any(|method| method == "GET") {
            allowed.push("HEAD".to_owned());
        }
        allowed.sort();
        Some(allowed.join(", "))
    }

    /// The path of the document that matches this one, and its operations by method.
    fn template(&self, path: &str) -> Option<(&str, &Value)> {
        let paths = self.document["paths"].as_object()?;
        // A path without parameters wins over one with parameters, as in the router.
        let found = paths.get_key_value(path);
        let (template, methods) = found.or_else(|| {
            paths
                .iter()
                .find(|(template, _)| is_instance(path, template))
        })?;
        Some((template, methods))
    }

    /// Refuses a parameter of the path or the query that is not text. The router's refusal would not name the parameter
    /// of the path. A query that is not UTF-8 would be read in another form than it was sent. PostgreSQL's text cannot
    /// hold U+0000.
    pub fn check_text(&self, path: &str, query: &str) -> Result<(), Problem> {
        if !path.contains('%') && !query.contains('%') {
            return Ok(());
        }
        let Some((template, methods)) = self.template(path) else {
            return Ok(());
        };
        let parts = template.split('/').zip(path.split('/'));
        let in_path = parts.filter_map(|(name, part)| {
            let name = name.strip_prefix('{')?.strip_suffix('}')?;
            Some((name, part))
        });
        let operations = methods.as_object().into_iter().flat_map(Map::values);
        let named: Vec<_> = operations
            .filter_map(|operation| operation["parameters"].as_array())
            .flatten()
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let in_query = query.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = percent_decode_str(name).decode_utf8().ok()?;
            Some((*named.iter().find(|known| **known == name)?, value))
        });
        let is_text = |value| {
            percent_decode_str(value)
                .decode_utf8()
                .is_ok_and(|text| !text.contains('\0'))
        };
        match in_path.chain(in_query).find(|(_, value)| !is_text(value)) {
            None => Ok(()),
            Some((name, _)) => Err(Problem::invalid_field(
                name,
                "format",
                "must be UTF-8 without the character U+0000",
            )),
        }
    }

    /// Refuses a parameter in the query that the operation does not have, such as `?limits=5`, or that is given twice.
    pub fn check_names(&self, path: &str, method: &Method, query: &str) -> Result<(), Problem> {
        let method = match *method {
            Method::HEAD => "get".to_owned(),
            ref method => method.as_str().to_ascii_lowercase(),
        };
        let operation = self.template(path).map(|(_, methods)| &methods[method]);
        let Some(operation) =
            operation.filter(|operation| operation.is_object() && !query.is_empty())
        else {
            return Ok(());
        };
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let known: Vec<_> = parameters
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let mut seen = BTreeSet::new();
        let errors: Vec<_> = form_urlencoded::parse(query.as_bytes())
            .filter_map(|(name, _)| {
                let field = name.chars().take(LONGEST_NAME).collect();
                let (code, message) = match known.as_slice() {
                    [] => (
                        "unknown_field",
                        "is not a parameter of this request, which has none".to_owned(),
                    ),
                    known if !known.contains(&&*name) => (
                        "unknown_field",
                        format!(
                            "is not a parameter of this request; its parameters are {}",
                            known.join(", ")
                        ),
                    ),
                    _ if seen.insert(name) => return None,
                    _ => ("repeated", "is given more than once".to_owned()),
                };
                Some(FieldError {
                    field,
                    code: code.to_owned(),
                    message,
                })
            })
            .take(MOST_ERRORS)
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(errors))
        }
    }

    fn check(&self, schema: &str, body: &Value) -> Result<(), Problem> {
        let Some(validator) = self.bodies.get(schema) else {
            return Err(Problem::internal(format!(
                "no schema {schema} in the document"
            )));
        };
        let is_sifted = schema == complete::SIFTED;
        let schema = &self.document["components"]["schemas"][schema];
        let fields = &schema["properties"];
        for (name, value) in body.as_object().into_iter().flatten() {
            // Checking each of a million items takes seconds, and the body is refused anyway.
            if let (Some(items), Some(most)) = (value.as_array(), fields[name]["maxItems"].as_u64())
                && items.len() as u64 > most
            {
                let message = self.must_be(&fields[name]);
                return Err(Problem::invalid_field(name, "too_long", message));
            }
        }
        let mut errors: Vec<_> = validator
            .iter_errors(body)
            .flat_map(|error| self.field_errors(schema, error))
            .take(MOST_ERRORS)
            .collect();
        if !is_sifted {
            find_nul(body, &String::new, &mut errors);
        }
        for error in &mut errors {
            if let Some((end, _)) = error.field.char_indices().nth(LONGEST_NAME) {
                error.field.truncate(end);
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(errors))
        }
    }

    fn field_errors(&self, schema: &Value, error: ValidationError<'_>) -> Vec<FieldError> {
        let pointer = error.instance_path().as_str();
        let path = field_path(pointer);
        let fault = |name: &str, code: &str, message: String| FieldError {
            field: match (path.as_str(), name) {
                ("", "") => "body".to_owned(),
                ("", name) => name.to_owned(),
                (path, "") => path.to_owned(),
                (path, name) => format!("{path}.{name}"),
            },
            code: code.to_owned(),
            message,
        };
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
                .iter()
                .map(|name| {
                    fault(
                        name,
                        "unknown_field",
                        "is not a field of this request".into(),
                    )
                })
                .collect(),
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                vec![fault(name, "required", "is required".into())]
            }
            kind => {
                let schema = pointer.split('/').skip(1).fold(schema, |schema, part| {
                    let schema = self.resolve(schema);
                    schema["properties"].get(part).unwrap_or(&schema["items"])
                });
                let code = code_of(kind);
                let message = match (schema["format"].as_str(), code) {
                    // The length of a password is checked again after it is composed, with the same messages.
                    (Some("password"), "too_long") => password::too_long(),
                    (Some("password"), "too_short") => password::too_short(&schema["minLength"]),
                    _ => self.must_be(schema),
                };
                vec![fault("", code, message)]
            }
        }
    }

    /// Turns a mistake that poem-openapi found in a parameter into a message that says what is valid.
    pub fn explain(&self, error: &poem::Error) -> Option<Problem> {
        let OperationId(id) = error.data()?;
        let mut paths = self.document["paths"].as_object()?.iter();
        let (template, operation) = paths.find_map(|(template, methods)| {
            let mut operations = methods.as_object()?.values();
            Some((template, operations.find(|it| it["operationId"] == *id)?))
        })?;
        let (name, code) = if let Some(error) = error.downcast_ref::<ParsePathError>() {
            // poem-openapi numbers the parameters of a path.
            let number = error.name.strip_prefix("param")?.parse().ok()?;
            let mut names = template
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            (names.nth(number)?, "format")
        } else {
            let error = error.downcast_ref::<ParseParamError>()?;
            let is_rule = error.reason.starts_with("verification failed");
            (error.name, if is_rule { "range" } else { "format" })
        };
        let mut parameters = operation["parameters"].as_array()?.iter();
        let parameter = parameters.find(|it| it["name"] == *name)?;
        Some(Problem::invalid_field(
            name,
            code,
            self.must_be(&parameter["schema"]),
        ))
    }

    /// Says what a value must be. The value itself is not repeated, because it may be a password or very long.
    fn must_be(&self, schema: &Value) -> String {
        let schema = self.resolve(schema);
        if let Some(choices) = schema["enum"].as_array() {
            let choices: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
            return format!("must be one of {}", choices.join(", "));
        }
        let bounds = |of: &str, least: &str, most: &str, unit: &str| {
            let bound = |name: &str| schema[name].as_i64();
            match (bound(least), bound(most)) {
                (Some(least), Some(most)) => format!(" {of} {least} to {most}{unit}"),
                (Some(least), None) => format!(" of at least {least}{unit}"),
                (None, Some(most)) => format!(" of at most {most}{unit}"),
                (None, None) => String::new(),
            }
        };
        let (what, bounds) = match schema["type"].as_str() {
            Some("integer") => ("a whole number", bounds("from", "minimum", "maximum", "")),
            Some("boolean") => ("true or false", String::new()),
            Some("array") => ("a list", bounds("of", "minItems", "maxItems", " items")),
            Some("string") if schema["format"] == "uuid" => ("a UUID", String::new()),
            Some("string") => {
                let mut patterns = PATTERNS.iter();
                let pattern = patterns.find(|(pattern, _)| schema["pattern"] == *pattern);
                let what = pattern.map_or("text", |(_, words)| words);
                (what, bounds("of", "minLength", "maxLength", " characters"))
            }
            _ => ("a JSON object", String::new()),
        };
        format!("must be {what}{bounds}")
    }

    /// The schema that this one refers to, or this one itself.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let reference = schema
            .get("$ref")
            .or_else(|| schema.pointer("/allOf/0/$ref"));
        reference
            .and_then(|reference| {
                self.document
                    .pointer(reference.as_str()?.strip_prefix('#')?)
            })
            .unwrap_or(schema)
    }
}

/// Whether `/sessions/17` is a `/sessions/{id}`.
fn is_instance(path: &str, template: &str) -> bool {
    path.split('/').count() == template.split('/').count()
        && path
            .split('/')
            .zip(template.split('/'))
            .all(|(part, pattern)| part == pattern || pattern.starts_with('{'))
}

fn is_moment(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.contains('T')
        && text.ends_with('Z')
}

/// The names of the schemas that request bodies refer to.
fn body_schemas(document: &Value) -> Vec<String> {
    let operations = document["paths"]
        .as_object()
        .into_iter()
        .flat_map(|paths| paths.values());
    let mut names: Vec<_> = operations
        .filter_map(Value::as_object)
        .flat_map(|methods| methods.values())
        .filter_map(|operation| {
            operation
                .pointer("/requestBody/content")?
                .as_object()?
                .values()
                .next()
        })
        .filter_map(|media| media.pointer("/schema/$ref")?.as_str())
        .filter_map(|reference| reference.rsplit('/').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

fn body_validator(document: &Value, name: &str) -> anyhow::Result<Validator> {
    // OpenAPI 3.0 schemas are JSON Schema draft 4, but for `nullable`: an optional field may be null.
    let mut schemas = document["components"]["schemas"].clone();
    if let Some(properties) = schemas[name]["properties"].as_object_mut() {
        for property in properties.values_mut() {
            if property["nullable"] != json!(true) {
                continue;
            }
            if property["type"].is_string() && property["enum"].is_null() {
                // In this form, unlike `anyOf`, each of the other rules still has an error of its own.
                property["type"] = json!([property["type"], "null"]);
            } else {
                *property = json!({ "anyOf": [property.clone(), { "type": "null" }] });
            }
        }
    }
    let schema = json!({
        "$ref": format!("#/components/schemas/{name}"),
        "components": { "schemas": schemas },
    });
    let validator = jsonschema::draft4::options()
        .should_validate_formats(true)
        // A format that draft 4 does not know.
        .with_format("uuid", |text: &str| uuid::Uuid::try_parse(text).is_ok())
        .build(&schema)
        .map_err(|error| anyhow::anyhow!("schema {name}: {error}"))?;
    Ok(validator)
}

fn code_of(kind: &ValidationErrorKind) -> &'static str {
    match kind {
        ValidationErrorKind::Type { .. } | ValidationErrorKind::AnyOf { .. } => "type",
        ValidationErrorKind::Pattern { .. } => "pattern",
        ValidationErrorKind::Format { .. } => "format",
        ValidationErrorKind::Enum { .. } => "choice",
        ValidationErrorKind::MinLength { .. } | ValidationErrorKind::MinItems { .. } => "too_short",
        ValidationErrorKind::MaxLength { .. } | ValidationErrorKind::MaxItems { .. } => "too_long",
        ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. } => "range",
        _ => "invalid",
    }
}

/// `/packages/3` → `packages[3]`
fn field_path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    path
}

/// Finds a value with U+0000, which PostgreSQL's text cannot hold. A path is written only for such a value, because a
/// name may be almost as long as the body, and may contain a hundred thousand items.
fn find_nul(value: &Value, path: &dyn Fn() -> String, errors: &mut Vec<FieldError>) {
    match value {
        _ if errors.len() >= MOST_ERRORS => {}
        Value::String(text) if text.contains('\0') => errors.push(FieldError {
            field: field_path(&path()),
            code: "nul_character".into(),
            message: "must not contain the character U+0000".into(),
        }),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_nul(item, &|| format!("{}/{index}", path()), errors);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                find_nul(field, &|| format!("{}/{name}", path()), errors);
            }
        }
        _ => {}
    }
}
