//! Completes the OpenAPI document with facts that poem-openapi cannot express: the refusals of each operation,
//! examples, members that are always present, and operations that are public.
#![expect(
    clippy::indexing_slicing,
    reason = "the document is our own, and an absent member of a JSON value is null"
)]

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use poem::http::StatusCode;
use serde_json::{Map, Value, json};

use super::codes::{By, CODES, Code, Refusals};
use crate::problem::Problem;

/// Examples by schema. Those of requests can be pasted. Linters check them against their schemas.
const EXAMPLES: &str = include_str!("../../openapi/examples.yaml");
/// Examples of path parameters, by name.
const PARAMETERS: [(&str, &str); 2] = [("slug", "slack-clone"), ("username", "ada")];
/// Mistakes in parameters of paths and queries.
const MISTAKES: [(&str, &str, &str); 3] = [
    ("limit", "range", "must be a whole number from 1 to 100"),
    ("id", "format", "must be a UUID"),
    (
        "techStack",
        "range",
        "must be visible text of 1 to 100 characters",
    ),
];
const PROBLEM: &str = "#/components/schemas/Problem";

/// A header of a status: its name, its type, whether it is always present, its meaning.
type Header = (&'static str, &'static str, bool, &'static str);
const AUTHENTICATE: Header = (
    "WWW-Authenticate",
    "string",
    true,
    "How to authenticate (RFC 6750).",
);
const WAIT: Header = ("Retry-After", "integer", true, "Seconds to wait.");
// Limits may be turned off.
const LIMITS: Header = (
    "RateLimit",
    "string",
    false,
    "How many requests each limit has left, and in how many seconds there are more: `\"login\";r=0;t=6` \
     (draft-ietf-httpapi-ratelimit-headers-10).",
);
const POLICY: Header = (
    "RateLimit-Policy",
    "string",
    false,
    "How many requests each limit allows in how many seconds: `\"login\";q=600;w=3600`.",
);

/// Completes the document that poem-openapi writes; `bodies` are the schemas of request bodies.
pub fn complete(
    document: &mut Value,
    bodies: &[String],
    refusals: &[Refusals],
) -> anyhow::Result<()> {
    tidy(document);
    complete_schemas(&mut document["components"]["schemas"], bodies)?;
    order_tags(document);
    let described = document["components"]["schemas"].clone();
    for operation in operations(document) {
        complete_operation(operation, &described);
    }
    add_problems(document, refusals)
}

/// Removes parts that say nothing, and corrects parts that poem-openapi writes in its own way.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A `default` may be any value, and properties may have any name. Nothing is removed from either.
            if fields.contains_key("in") || fields.contains_key("schema") {
                fields.retain(|name, value| {
                    name != "explode" && !(name == "deprecated" && *value == json!(false))
                });
            }
            *fields = std::mem::take(fields)
                .into_iter()
                .map(|(name, mut value)| {
                    tidy(&mut value);
                    match name.as_str() {
                        // The parameter is correct, but generated clients know only the bare type.
                        "application/json; charset=utf-8" => ("application/json".to_owned(), value),
                        "ETAG" => ("ETag".to_owned(), value),
                        _ => (name, value),
                    }
                })
                .collect();
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            // `minimum: 1.0` of an integer
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0) {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a larger number becomes the largest"
                )]
                let whole = float as i64;
                *number = whole.into();
            }
        }
        _ => {}
    }
}

/// Text that is not only white space, and has no U+0000.
pub const VISIBLE: &str = r"^[^\u0000]*[^\s\u0000][^\u0000]*$";

/// The body whose invalid metadata is left out instead of refused. A mistake in metadata must not keep a runner's clock
/// running.
pub const SIFTED: &str = "EndSession";

/// The form of a recording's URL, for any list of allowed hosts (`api::video`).
pub const VIDEO_URL: &str = r"^\s*[Hh][Tt][Tt][Pp][Ss]://[A-Za-z0-9._-]+(:443)?([/?#][^\s\\\u0000-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]*)?\s*$";

/// Adds rules that other code enforces, with better messages (`find_nul`, `List::key`, `api::video`). The checks of
/// bodies do not contain these rules, so the messages of a field tell only its own rules.
pub fn say_what_text_is(document: &mut Value, bodies: &[String]) {
    for name in bodies.iter().filter(|name| *name != SIFTED) {
        let properties = document["components"]["schemas"][name]["properties"].as_object_mut();
        for (property, schema) in properties.into_iter().flatten() {
            let text = match schema["type"].as_str() {
                Some("string") => schema,
                Some("array") if schema["items"]["type"] == "string" => &mut schema["items"],
                _ => continue,
            };
            // A text with an `enum` or a `format` cannot have U+0000 anyway. Only a password can.
            let is_password = text["format"] == "password";
            if !text["enum"].is_null() || !text["format"].is_null() && !is_password {
                continue;
            }
            match text["pattern"].as_str() {
                None if property == "videoUrl" => text["pattern"] = json!(VIDEO_URL),
                None => text["pattern"] = json!(r"^[^\u0000]*$"),
                Some(r"\S") => text["pattern"] = json!(VISIBLE),
                // A pattern that lists its characters does not allow U+0000.
                Some(_) => {}
            }
        }
    }
    for operation in operations(document) {
        let parameters = operation
            .get_mut("parameters")
            .and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            if parameter["name"] == "cursor" {
                parameter["schema"]["pattern"] = json!("^[A-Za-z0-9_-]+$");
            }
        }
    }
}

fn complete_schemas(schemas: &mut Value, bodies: &[String]) -> anyhow::Result<()> {
    let schemas = schemas.as_object_mut().context("no schemas")?;
    let examples: Map<String, Value> = serde_yaml_ng::from_str(EXAMPLES)?;
    for (name, example) in examples {
        let schema = schemas
            .get_mut(&name)
            .with_context(|| format!("an example of {name}, which is no schema"))?;
        schema["example"] = example;
    }
    for (name, schema) in schemas {
        let is_body = bodies.contains(name);
        if is_body {
            ensure!(!schema["example"].is_null(), "no example of {name}");
            // poem-openapi enforces `deny_unknown_fields` but does not publish it.
            schema["additionalProperties"] = json!(false);
        }
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            continue;
        };
        let mut always = Vec::new();
        for (property, schema) in properties {
            if is_body && property.to_lowercase().ends_with("password") {
                schema["format"] = json!("password");
            }
            if schema["nullable"] == json!(true) {
                always.push(property.clone());
            }
            unwrap_nullable(schema);
        }
        // In an answer a nullable member is always present. In a request it may be left out.
        if !is_body && let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut)
        {
            required.extend(always.into_iter().map(Value::String));
        }
    }
    Ok(())
}

/// poem-openapi writes a reference that may be null as two schemas and no type.
fn unwrap_nullable(schema: &mut Value) {
    let nullable = schema["nullable"] == json!(true);
    if let Some(parts) = schema
        .get_mut("allOf")
        .and_then(Value::as_array_mut)
        .filter(|_| nullable)
    {
        parts.retain(|part| part.get("$ref").is_some());
        schema["type"] = json!("object");
    }
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    document["paths"]
        .as_object_mut()
        .into_iter()
        .flat_map(|paths| paths.values_mut())
        .filter_map(Value::as_object_mut)
        .flat_map(|methods| methods.values_mut())
        .filter_map(Value::as_object_mut)
}

/// Orders the subjects like their operations. poem-openapi orders them by the alphabet.
fn order_tags(document: &mut Value) {
    let order: Vec<_> = operations(document)
        .map(|operation| operation["tags"][0].clone())
        .collect();
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.sort_by_key(|tag| order.iter().position(|name| *name == tag["name"]));
    }
}

fn complete_operation(operation: &mut Map<String, Value>, schemas: &Value) {
    // Without this a generated client could not tell a public operation from a forgotten requirement.
    operation.entry("security").or_insert_with(|| json!([]));
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let mut examples = PARAMETERS.iter();
        if let Some((_, example)) = examples.find(|(name, _)| parameter["name"] == *name) {
            parameter["example"] = json!(example);
        }
    }
    let Some(responses) = operation
        .get_mut("responses")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    responses.retain(|status, _| !status.ends_with("XX"));
    for response in responses.values_mut() {
        if response["description"] == json!("") {
            let name = response
                .pointer("/content/application~1json/schema/$ref")
                .and_then(Value::as_str)
                .and_then(|reference| reference.rsplit('/').next())
                .unwrap_or_default();
            response["description"] = schemas[name]["description"].clone();
        }
    }
}

/// Adds to each operation the problems that it answers with, and their codes.
fn add_problems(document: &mut Value, refusals: &[Refusals]) -> anyhow::Result<()> {
    let schemas = document["components"]["schemas"].clone();
    let (mut ids, mut examples) = (Vec::new(), Map::new());
    // The descriptions of a status, each with the number of operations that have it.
    let mut said: BTreeMap<u16, Vec<(Value, usize)>> = BTreeMap::new();
    for operation in operations(document) {
        let mut statuses: BTreeMap<u16, Vec<&Code>> = BTreeMap::new();
        let own = refusals
            .iter()
            .filter(|(id, _)| operation["operationId"] == *id);
        let own: Vec<&str> = own.flat_map(|(_, codes)| *codes).copied().collect();
        for code in CODES {
            let is_own = own.contains(&code.name);
            if is_own || code.answered_by.iter().any(|by| by.means(operation)) {
                statuses.entry(code.status).or_default().push(code);
            }
        }
        for (status, codes) in statuses {
            let mut shown = Map::new();
            for code in &codes {
                let (name, example) = example(code, operation, &schemas)?;
                let reference = format!("#/components/examples/{name}");
                shown.insert(code.name.into(), json!({ "$ref": reference }));
                examples.insert(name, json!({ "value": example }));
            }
            let response = problem_response(status, &codes, &shown);
            let said = said.entry(status).or_default();
            match said.iter_mut().find(|(known, _)| *known == response) {
                Some((_, times)) => *times += 1,
                None => said.push((response.clone(), 1)),
            }
            operation["responses"][status.to_string()] = response;
        }
        ids.extend(operation["operationId"].as_str().map(str::to_owned));
    }
    share_responses(document, said);
    document["components"]["examples"] = examples.into();
    let names: Vec<_> = CODES.iter().map(|code| code.name).collect();
    for (id, codes) in refusals {
        ensure!(ids.iter().any(|known| known == id), "no operation {id}");
        for code in *codes {
            ensure!(names.contains(code), "{id}: no code {code}");
        }
    }
    document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] = json!(names);
    Ok(())
}

/// An example of a problem that an operation answers with, made in the same way as the problem itself, and its name.
fn example(
    code: &Code,
    operation: &Map<String, Value>,
    schemas: &Value,
) -> anyhow::Result<(String, Value)> {
    let usual = &schemas["Problem"]["example"];
    let request_id = usual["requestId"].as_str().unwrap_or_default().to_owned();
    if code.name == "invalid_request"
        && let Some((field, kind, message)) = mistake(operation, schemas)
    {
        let problem = Problem::invalid_field(field, kind, message);
        return Ok((
            format!("{}.{field}", code.name),
            problem.document(request_id),
        ));
    }
    let detail = code.meaning.replace('`', "");
    let refusal = json!({ "status": code.status, "code": code.name, "detail": detail });
    let mut refusal = refusal.as_object().cloned().unwrap_or_default();
    for member in code.members {
        refusal.insert(member.name.into(), serde_json::from_str(member.example)?);
    }
    let problem = Problem::from_refusal(refusal);
    Ok((code.name.to_owned(), problem.document(request_id)))
}

/// A possible mistake in a request: a field, the kind of mistake, and its message.
fn mistake<'a>(
    operation: &'a Map<String, Value>,
    schemas: &'a Value,
) -> Option<(&'a str, &'static str, &'static str)> {
    let Some(body) = operation.get("requestBody") else {
        let parameters = operation.get("parameters")?.as_array()?;
        let mut known = MISTAKES.into_iter();
        return known.find(|(name, ..)| parameters.iter().any(|it| it["name"] == *name));
    };
    let reference = body.pointer("/content/application~1json/schema/$ref")?;
    let schema = &schemas[reference.as_str()?.rsplit('/').next()?];
    let required = schema["required"].as_array()?.first()?;
    Some((required.as_str()?, "required", "is required"))
}

/// Moves the description of a status that most operations share to one place, with a name.
fn share_responses(document: &mut Value, said: BTreeMap<u16, Vec<(Value, usize)>>) {
    for (status, said) in said {
        let name = StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason());
        let usual = said.into_iter().max_by_key(|(_, times)| *times);
        let (Some(name), Some((response, 2..))) = (name, usual) else {
            continue;
        };
        let name = name.replace(' ', "");
        for operation in operations(document) {
            if let Some(inline) = operation["responses"].get_mut(status.to_string())
                && *inline == response
            {
                *inline = json!({ "$ref": format!("#/components/responses/{name}") });
            }
        }
        document["components"]["responses"][name] = response;
    }
}

impl By {
    fn means(&self, operation: &Map<String, Value>) -> bool {
        let has = |name| operation.contains_key(name);
        let security = operation["security"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        match self {
            By::Every => true,
            By::Input => has("parameters") || has("requestBody"),
            By::Body => has("requestBody"),
            By::Token => !security.is_empty(),
            By::RequiredToken => !security.is_empty() && !security.contains(&json!({})),
        }
    }
}

fn problem_response(status: u16, codes: &[&Code], examples: &Map<String, Value>) -> Value {
    let meanings: Vec<_> = codes
        .iter()
        .map(|code| format!("- `{}`: {}", code.name, code.meaning))
        .collect();
    let mut response = json!({
        "description": meanings.join("\n"),
        "content": { "application/problem+json": {
            "schema": { "allOf": [{ "$ref": PROBLEM }, narrowed(codes)] },
            "examples": examples,
        } },
    });
    let headers: &[_] = match status {
        401 => &[AUTHENTICATE],
        429 => &[WAIT, LIMITS, POLICY],
        503 => &[WAIT],
        _ => &[],
    };
    for (name, ty, always, description) in headers {
        response["headers"][*name] =
            json!({ "description": description, "required": always, "schema": { "type": ty } });
    }
    response
}

/// The schema of a problem with one of these codes, beyond the members of every problem.
fn narrowed(codes: &[&Code]) -> Value {
    let names: Vec<_> = codes.iter().map(|code| code.name).collect();
    let mut properties = Map::new();
    let mut required = Vec::new();
    properties.insert("code".into(), json!({ "type": "string", "enum": names }));
    for member in codes.iter().flat_map(|code| code.members) {
        let (ty, format) = member.schema;
        let mut schema = json!({ "type": ty, "description": member.description });
        if !format.is_empty() {
            schema["format"] = json!(format);
        }
        let first = properties.insert(member.name.into(), schema);
        let always = codes
            .iter()
            .all(|code| code.members.iter().any(|other| other.name == member.name));
        if first.is_none() && always {
            required.push(member.name);
        }
    }
    let mut narrowed = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        narrowed["required"] = json!(required);
    }
    narrowed
}
