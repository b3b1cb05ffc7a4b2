//! Reads a challenge from its TOML file (`challenges/`), and reports all mistakes in it at once.
//!
//! `eserde` also collects mistakes, but it tells no lines, and only the first mistake in the syntax. Most of this file
//! is checks and their messages, which would stay.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt::{self, Display, Formatter},
    io::Read,
    ops::RangeInclusive,
    path::Path,
    str,
};

use serde::{
    Deserialize,
    de::{IntoDeserializer, value::Error},
};
use toml::de::{DeTable, DeValue};

use crate::{api::challenges::Verification, text::is_hidden};

/// A challenge as its file describes it.
pub struct Challenge {
    pub slug: String,
    pub title: String,
    pub description: String,
    pub required_milestones: i32,
    pub ordered: bool,
    pub ranked: bool,
    /// The time after which a running session expires, in seconds.
    pub max_duration: f64,
    pub active: bool,
    /// The milestones, numbered 1, 2, 3 …, in any order.
    pub milestones: Vec<Milestone>,
}

/// A milestone of the challenge.
pub struct Milestone {
    pub number: i32,
    pub title: String,
    pub description: String,
    pub verification: Verification,
    /// The inputs. There are none unless the milestone is passed by an answer.
    pub variants: Vec<Variant>,
}

/// An input that a session may get. It is never printed.
pub struct Variant {
    pub input: String,
    pub answer: String,
}

/// A mistake in a file.
#[derive(Debug)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The field, such as `milestones[2].title`, counted from 1. It is empty if the line belongs to no field.
    pub field: String,
    /// The mistake, without the content of the field.
    pub what: String,
}

impl Display for Mistake {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Mistake { line, field, what } = self;
        if field.is_empty() {
            write!(f, "{line}: {what}")
        } else {
            write!(f, "{line}: {field}: {what}")
        }
    }
}

/// All names of fields.
const FIELDS: [&str; 14] = [
    "slug",
    "title",
    "description",
    "required_milestones",
    "ordered",
    "ranked",
    "max_duration",
    "active",
    "milestones",
    "number",
    "verification",
    "variants",
    "input",
    "answer",
];
const TITLE: RangeInclusive<usize> = 1..=200;
const DESCRIPTION: RangeInclusive<usize> = 0..=20_000;
const INPUT: RangeInclusive<usize> = 1..=1_000_000;
/// The lengths of answers that a runner can send.
const ANSWER: RangeInclusive<usize> = 1..=1_000;
const MILESTONES: RangeInclusive<i64> = 0..=1_000;
const DURATION: RangeInclusive<f64> = 60.0..=30.0 * 86_400.0;
const FILE: u64 = 256 * 1024 * 1024;

/// Reads all bytes of a file, or fails if there are too many. A device, for instance, has no end.
pub fn open(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = fs_err::File::open(path)?.take(FILE + 1);
    file.read_to_end(&mut bytes)?;
    anyhow::ensure!(
        bytes.len() as u64 <= FILE,
        "{} is larger than 256 MiB, so it is not the file of a challenge",
        path.display()
    );
    Ok(bytes)
}

/// Reads a challenge, or fails with all mistakes in the order of their lines.
pub fn read(bytes: &[u8]) -> Result<Challenge, Vec<Mistake>> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let before = bytes.iter().take(error.valid_up_to());
        vec![Mistake {
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
            field: String::new(),
            what: "is not UTF-8".to_owned(),
        }]
    })?;
    let page = Page {
        breaks: text.match_indices('\n').map(|(at, _)| at + 1).collect(),
        broken: RefCell::default(),
        mistakes: RefCell::default(),
    };
    let text = page.without_orphans(text);
    let (root, errors) = DeTable::parse_recoverable(&text);
    for error in errors {
        page.note_syntax(
            &text,
            error.span().map_or(0, |span| span.start),
            error.message(),
        );
    }
    let challenge = challenge(Fields {
        page: &page,
        path: String::new(),
        line: 1,
        table: root.into_inner(),
        known: Vec::new(),
    });
    let mut mistakes = page.mistakes.into_inner();
    mistakes.sort_by_key(|mistake| mistake.line);
    match challenge {
        Some(challenge) if mistakes.is_empty() => Ok(challenge),
        _ => Err(mistakes),
    }
}

fn challenge(mut fields: Fields) -> Option<Challenge> {
    let slug = fields.text("slug", 0..=64, None);
    if let Some((line, slug)) = &slug
        && !is_slug(slug)
    {
        fields.mistake(
            *line,
            "slug",
            "must be lower-case words, such as slack-clone",
        );
    }
    let title = fields.text("title", TITLE, None);
    let description = fields.text("description", DESCRIPTION, Some(""));
    let required = fields.whole("required_milestones", MILESTONES, false);
    let ordered = fields.flag("ordered", false);
    let ranked = fields.flag("ranked", true);
    let max_duration = fields.duration("max_duration", 86_400.0);
    let active = fields.flag("active", true);

    if fields.line_of("milestones").is_none() {
        fields.missing(
            "milestones",
            "is missing: write [[milestones]] for each milestone",
        );
    }
    let listed = fields.tables("milestones", "[[milestones]]");
    let count = listed.len();
    let (page, mut numbers, mut milestones) = (fields.page, Vec::new(), Vec::new());
    for fields in listed {
        let path = fields.path_of("number");
        let (number, milestone) = milestone(fields);
        numbers.extend(number.map(|(line, number)| (number, line, path)));
        milestones.extend(milestone);
    }
    check_numbers(page, numbers);
    let required_milestones = match required {
        Some((line, required))
            if usize::try_from(required).is_ok_and(|required| required > count) =>
        {
            let what = format!("must be at most the number of milestones, {count}");
            fields.mistake(line, "required_milestones", &what);
            None
        }
        Some((_, required)) => i32::try_from(required).ok(),
        None => i32::try_from(count).ok(),
    };
    fields.finish();
    Some(Challenge {
        slug: slug?.1,
        title: title?.1,
        description: description?.1,
        required_milestones: required_milestones?,
        ordered,
        ranked,
        max_duration,
        active,
        milestones,
    })
}

/// A milestone, and its number with its line. The number is returned even if another field has a mistake.
fn milestone(mut fields: Fields) -> (Option<(usize, i64)>, Option<Milestone>) {
    let number = fields.whole("number", 1..=*MILESTONES.end(), true);
    let title = fields.text("title", TITLE, None);
    let description = fields.text("description", DESCRIPTION, Some(""));
    let judged_by = fields.text("verification", 0..=usize::MAX, Some("manual"));
    let verification = judged_by.as_ref().and_then(|(line, given)| {
        let text = IntoDeserializer::<Error>::into_deserializer(given.as_str());
        let known = Verification::deserialize(text).ok();
        if known.is_none() {
            fields.mistake(*line, "verification", "must be manual, answer or verifier");
        }
        known
    });

    let at = fields.line_of("variants");
    let listed = fields.tables("variants", "[[milestones.variants]]");
    match (verification, at) {
        (Some(Verification::Answer), None) => fields.missing(
            "variants",
            "is missing: an answer needs inputs, so write [[milestones.variants]] for each input",
        ),
        (Some(Verification::Manual | Verification::Verifier), Some(line)) => {
            let what = "belongs only to milestones with verification = \"answer\"";
            fields.mistake(line, "variants", what);
        }
        (Some(Verification::Answer), Some(_))
        | (Some(Verification::Manual | Verification::Verifier), None)
        | (None, _) => {}
    }
    let mut inputs = HashMap::new();
    let mut variants = Vec::new();
    for mut fields in listed {
        let input = fields.text("input", INPUT, None);
        let answer = fields.text("answer", ANSWER, None);
        if let Some((line, input)) = &input
            && let Some(first) = inputs.insert(input.clone(), *line)
        {
            let what = format!("is the same as on line {first}");
            fields.mistake(*line, "input", &what);
        }
        fields.finish();
        if let (Some((_, input)), Some((_, answer))) = (input, answer) {
            variants.push(Variant { input, answer });
        }
    }
    fields.finish();
    let milestone = (|| {
        Some(Milestone {
            number: i32::try_from(number?.1).ok()?,
            title: title?.1,
            description: description?.1,
            verification: verification?,
            variants,
        })
    })();
    (number, milestone)
}

/// Checks that the numbers go from 1 on, each once.
fn check_numbers(page: &Page, mut numbers: Vec<(i64, usize, String)>) {
    numbers.sort();
    let (mut before, mut first) = (0, 0);
    for (number, line, path) in numbers {
        if number == before {
            page.note(line, path, format!("is the same as on line {first}"));
            continue;
        }
        if number > before + 1 {
            let next = before + 1;
            page.note(
                line,
                path,
                format!("leaves a gap: numbers start at 1, and {next} is missing"),
            );
        }
        (before, first) = (number, line);
    }
}

/// Lower-case words, separated by hyphens.
fn is_slug(text: &str) -> bool {
    text.split('-').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The seconds of a text such as `24h` or `1h 30m`.
fn seconds(text: &str) -> Option<f64> {
    let parts: Vec<_> = text.split_whitespace().collect();
    let sum = parts.iter().try_fold(0_u32, |sum, part| {
        let (digits, unit) = part.split_at_checked(part.len() - 1)?;
        let unit = match unit {
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        let is_plain = digits.bytes().all(|b| b.is_ascii_digit());
        let count: u32 = is_plain.then(|| digits.parse().ok())??;
        sum.checked_add(count.checked_mul(unit)?)
    })?;
    (!parts.is_empty()).then_some(f64::from(sum))
}

/// The lines of a file, and the mistakes on them.
struct Page {
    /// The beginnings of the second line, the third line, …
    breaks: Vec<usize>,
    /// Lines that are not TOML, by the field that they begin with. Their values are not known.
    broken: RefCell<BTreeMap<usize, String>>,
    mistakes: RefCell<Vec<Mistake>>,
}

impl Page {
    fn line(&self, offset: usize) -> usize {
        1 + self.breaks.partition_point(|start| *start <= offset)
    }

    fn note(&self, line: usize, field: String, what: String) {
        if !self.broken.borrow().contains_key(&line) {
            self.mistakes
                .borrow_mut()
                .push(Mistake { line, field, what });
        }
    }

    fn note_syntax(&self, text: &str, offset: usize, what: &str) {
        let line = self.line(offset);
        let before = line.checked_sub(2).and_then(|line| self.breaks.get(line));
        let words = text.get(before.copied().unwrap_or(0)..).unwrap_or_default();
        let words = words.trim_start_matches([' ', '\t', '[']);
        let is_field = |name: &&&str| {
            words
                .strip_prefix(**name)
                .is_some_and(|rest| !rest.starts_with(is_of_name))
        };
        // Any other text is not shown, because it may be a line of an input.
        let field = FIELDS
            .iter()
            .find(is_field)
            .copied()
            .unwrap_or_default()
            .to_owned();
        self.note(line, field.clone(), what.to_owned());
        self.broken.borrow_mut().insert(line, field);
    }

    /// The parser recovers from all mistakes but one: a key without a value. Such a line is turned into a comment. A
    /// file with many such lines is not the file of a challenge.
    fn without_orphans(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for _ in 0..100 {
            let (_, errors) = DeTable::parse_recoverable(&text);
            let mut orphans = errors
                .iter()
                .filter(|error| error.message().starts_with("key with no value"));
            let Some(span) = orphans.next().and_then(toml::de::Error::span) else {
                return text;
            };
            // The position of the error is behind the key.
            let before = text.get(..span.start).unwrap_or_default();
            let start = before.rfind('\n').map_or(0, |before| before + 1);
            let line = text.get(start..).unwrap_or_default();
            let first = line.chars().next().map_or(0, char::len_utf8);
            if first == 0 || line.starts_with('#') {
                return text;
            }
            self.note_syntax(&text, start, "has no value: write name = value");
            text.replace_range(start..start + first, &"#".repeat(first));
        }
        text
    }
}

/// A table of the file. Its fields are taken out of it one by one.
struct Fields<'a> {
    page: &'a Page,
    path: String,
    line: usize,
    table: DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn line_of(&self, name: &str) -> Option<usize> {
        let (key, _) = self.table.get_key_value(name)?;
        Some(self.page.line(key.span().start))
    }

    fn mistake(&self, line: usize, name: &str, what: impl Into<String>) {
        self.page.note(line, self.path_of(name), what.into());
    }

    fn missing(&self, name: &str, what: &str) {
        let mut broken = self.page.broken.borrow().clone().into_values();
        if !broken.any(|field| field == name) {
            self.mistake(self.line, name, what);
        }
    }

    fn take(&mut self, name: &'static str) -> Option<(usize, DeValue<'a>)> {
        self.known.push(name);
        let line = self.line_of(name)?;
        Some((line, self.table.remove(name)?.into_inner()))
    }

    /// A text within these lengths, and its line.
    fn text(
        &mut self,
        name: &'static str,
        length: RangeInclusive<usize>,
        default: Option<&str>,
    ) -> Option<(usize, String)> {
        let Some((line, value)) = self.take(name) else {
            if default.is_none() {
                self.missing(name, "is missing");
            }
            return default.map(|text| (self.line, text.to_owned()));
        };
        let DeValue::String(text) = value else {
            self.mistake(line, name, "must be text: write it in quotes");
            return None;
        };
        let count = text.chars().count();
        if count > *length.end() {
            self.mistake(
                line,
                name,
                format!("has {count} characters; the maximum is {}", length.end()),
            );
        } else if *length.start() > 0 && text.trim().is_empty() {
            self.mistake(line, name, "is empty");
        } else if text.contains('\0') {
            self.mistake(
                line,
                name,
                "has the character U+0000, which the database cannot store",
            );
        } else if matches!(name, "title" | "description")
            // Inputs and answers may have any characters.
            && text.contains(|c| is_hidden(c) && (name == "title" || !matches!(c, '\t' | '\n' | '\r')))
        {
            self.mistake(
                line,
                name,
                "has a control character, or a character that turns the direction of text",
            );
        }
        Some((line, text.into_owned()))
    }

    fn whole(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
        needed: bool,
    ) -> Option<(usize, i64)> {
        let Some((line, value)) = self.take(name) else {
            if needed {
                self.missing(name, "is missing");
            }
            return None;
        };
        let number = match &value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let what = format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            );
            self.mistake(line, name, what);
        }
        number.map(|number| (line, number))
    }

    fn flag(&mut self, name: &'static str, default: bool) -> bool {
        match self.take(name) {
            Some((_, DeValue::Boolean(given))) => given,
            Some((line, _)) => {
                self.mistake(line, name, "must be true or false");
                default
            }
            None => default,
        }
    }

    fn duration(&mut self, name: &'static str, default: f64) -> f64 {
        let Some((line, value)) = self.take(name) else {
            return default;
        };
        let given = value.as_str().and_then(seconds);
        let given = given.filter(|seconds| DURATION.contains(seconds));
        if given.is_none() {
            let what = "must be from one minute to 30 days, such as \"24h\" or \"1h 30m\"";
            self.mistake(line, name, what);
        }
        given.unwrap_or(default)
    }

    /// The tables of a list.
    fn tables(&mut self, name: &'static str, heading: &str) -> Vec<Fields<'a>> {
        let Some((line, value)) = self.take(name) else {
            return Vec::new();
        };
        let path = self.path_of(name);
        let DeValue::Array(items) = value else {
            self.mistake(
                line,
                name,
                format!("must be a list: write {heading} for each item"),
            );
            return Vec::new();
        };
        if items.is_empty() {
            self.mistake(
                line,
                name,
                format!("is empty: write {heading} for each item"),
            );
        }
        let items = items.into_iter().enumerate();
        items
            .filter_map(|(index, item)| {
                let (line, path) = (
                    self.page.line(item.span().start),
                    format!("{path}[{}]", index + 1),
                );
                let DeValue::Table(table) = item.into_inner() else {
                    self.page.note(line, path, "must be a table".to_owned());
                    return None;
                };
                Some(Fields {
                    page: self.page,
                    path,
                    line,
                    table,
                    known: Vec::new(),
                })
            })
            .collect()
    }

    /// Reports every field that was not taken as unknown.
    fn finish(self) {
        let known = self.known.join(", ");
        for (key, _) in &self.table {
            let line = self.page.line(key.span().start);
            self.mistake(
                line,
                &key.get_ref().escape_debug().to_string(),
                format!("is unknown here; the known fields are {known}"),
            );
        }
    }
}
