//! Passwords: hashed with Argon2id, and compared with the hash that an account has.

use std::{fmt::Display, io};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::phc::{Output, PasswordHash, Salt},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

pub use super::pool::Permit;
use super::pool::{Memory, Pool};
use crate::{problem::Problem, random::random_bytes};

/// m = 19 MiB, t = 2, p = 1 (OWASP Password Storage Cheat Sheet).
const TODAYS: Params = match Params::new(19 * 1024, 2, 1, Some(32)) {
    Ok(params) => params,
    Err(_) => panic!("parameters of Argon2"),
};
/// The hash that an unknown user's password is compared with, so that it takes as long as a known user's.
/// (The hash of 32 random bytes that nobody kept, with today's parameters.)
const NOBODYS_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$AzzT48qkOz5HfCc1wN7ZQw$VEwsoHjM1NMV9PRmThM0I2WoN+xelK6/foqU8/7fUAA";
/// The minimum number of guesses that an attacker with the usual lists must need.
const MINIMUM_GUESSES: f64 = 1e4;
const MINIMUM_LENGTH: usize = 8;
/// The longest password, in composed characters. Schemas count characters as they are sent, so there it is four times
/// as long: at most four are composed to one.
const MAXIMUM_LENGTH: usize = 128;

/// A hash that would cost more is not computed. Its parameters are corrupt, or an attacker wants to bring the service
/// down.
const MOST_MEMORY_KIB: u32 = 64 * 1024;
const MOST_PASSES: u32 = 10;
const MOST_LANES: u32 = 16;
const MOST_BCRYPT_COST: u32 = 15;
/// bcrypt reads only this many bytes of a password.
const BCRYPT_BYTES: usize = 72;

/// A password of a request, composed (NFC), so that the same keys on another system give the same password.
#[derive(Clone)]
pub struct Password {
    composed: SecretString,
    /// The password as it was sent, if that differs. An older installation may have hashed it so.
    sent: Option<SecretString>,
}

impl Password {
    /// Refuses a password that is too long, and names this field of the request. (The least length depends on the
    /// operation.)
    pub fn read(field: &'static str, sent: String) -> Result<Self, Problem> {
        let composed: String = sent.nfc().collect();
        // Characters that are composed to one count as one.
        if composed.chars().nth(MAXIMUM_LENGTH).is_some() {
            return Err(Problem::invalid_field(field, "too_long", too_long()));
        }
        Ok(Password {
            sent: (sent != composed).then(|| sent.into()),
            composed: composed.into(),
        })
    }

    fn composed(&self) -> &str {
        self.composed.expose_secret()
    }

    /// The forms that may have been hashed, the usual one first.
    fn spellings(&self) -> impl Iterator<Item = &str> {
        let sent = self.sent.as_ref().map(SecretString::expose_secret);
        std::iter::once(self.composed()).chain(sent)
    }
}

/// The message for a password that is too long, from the schema and from here.
pub fn too_long() -> String {
    format!("must have at most {MAXIMUM_LENGTH} characters")
}

/// The message for a password that is too short.
pub fn too_short(least: impl Display) -> String {
    format!("must have at least {least} characters")
}

/// Hashes and compares passwords.
pub struct Passwords(Pool);

/// The result of a comparison.
pub struct Verdict {
    /// Whether the password is the account's.
    pub correct: bool,
    /// The new hash to store, if the password is correct and its hash is of an older kind.
    pub rehashed: Option<String>,
}

impl Passwords {
    /// A pool with one thread for each core of the machine.
    pub fn new() -> io::Result<Self> {
        Pool::new().map(Passwords)
    }

    /// Sets the gauges of the queue.
    pub fn observe(&self) {
        self.0.observe();
    }

    /// A permit for one hash or one comparison, or 503 at once if all are taken.
    pub fn acquire(&self) -> Result<Permit, Problem> {
        self.0.acquire()
    }
}

impl Permit {
    /// The hash of a new password as a PHC string, or a refusal that names the field and says why.
    pub async fn hash(
        self,
        field: &'static str,
        password: Password,
        username: &str,
    ) -> Result<String, Problem> {
        let username = username.to_owned();
        let hashing = move |memory: &mut Memory| {
            refuse_weak(field, password.composed(), &username)?;
            hash(password.composed().as_bytes(), memory)
        };
        self.run(hashing).await?
    }

    /// Whether the password is that of a user's hash. Without a hash, or with one that cannot be read, it is not, and
    /// the answer takes as long.
    pub async fn verify(
        self,
        password: &Password,
        stored: Option<(Uuid, String)>,
    ) -> Result<Verdict, Problem> {
        let password = password.clone();
        let comparing = move |memory: &mut Memory| {
            if let Some((user, hash)) = stored {
                match compare(&password, &hash, memory)? {
                    Some(verdict) => return Ok(verdict),
                    None => tracing::error!(
                        %user,
                        "a password hash in private.credentials cannot be read: nobody can log in with it"
                    ),
                }
            }
            compare(&password, NOBODYS_HASH, memory)?;
            Ok(Verdict {
                correct: false,
                rehashed: None,
            })
        };
        self.run(comparing).await?
    }
}

/// The beginning of a hash of the current kind.
fn todays() -> String {
    let (memory, passes, lanes) = (TODAYS.m_cost(), TODAYS.t_cost(), TODAYS.p_cost());
    format!("$argon2id$v=19$m={memory},t={passes},p={lanes}$")
}

/// A hash of the current kind.
fn hash(password: &[u8], memory: &mut Memory) -> Result<String, Problem> {
    let impossible = || Problem::internal("a password cannot be hashed");
    let salt: [u8; 16] = random_bytes().map_err(Problem::internal)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, TODAYS);
    let output = derive(&argon2, password, &salt, memory)?.ok_or_else(impossible)?;
    let [salt, output] = [&salt[..], output.as_bytes()].map(|bytes| STANDARD_NO_PAD.encode(bytes));
    Ok(format!("{}{salt}${output}", todays()))
}

/// The derived bytes, or nothing if the parameters or the salt do not allow any.
fn derive(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    memory: &mut Memory,
) -> Result<Option<Output>, Problem> {
    let count = argon2.params().block_count();
    let blocks = memory.blocks(count)?;
    let mut output = [0; Output::MAX_LENGTH];
    let derived = argon2.params().output_len().and_then(|length| {
        let output = output.get_mut(..length)?;
        let derived = argon2.hash_password_into_with_memory(password, salt, output, blocks);
        derived.ok()?;
        Output::new(output).ok()
    });
    if count > TODAYS.block_count() {
        *memory = Memory::default();
    }
    Ok(derived)
}

/// The result, or nothing if the stored hash cannot be read. A password that was not sent composed is tried in both
/// forms, for every account. So a wrong one takes twice as long.
fn compare(
    password: &Password,
    stored: &str,
    memory: &mut Memory,
) -> Result<Option<Verdict>, Problem> {
    let Some(parsed) = Stored::parse(stored) else {
        return Ok(None);
    };
    for spelling in password.spellings() {
        match parsed.matches(spelling.as_bytes(), memory)? {
            None => return Ok(None),
            Some(false) => {}
            Some(true) => {
                // bcrypt did not read the last bytes, so they may be wrong. A typing error there must not become the
                // password.
                let unseen = stored.starts_with("$2") && spelling.len() > BCRYPT_BYTES;
                let is_todays = stored.starts_with(&todays()) && spelling == password.composed();
                let rehashed = (!unseen && !is_todays)
                    .then(|| hash(password.composed().as_bytes(), memory).ok())
                    .flatten();
                return Ok(Some(Verdict {
                    correct: true,
                    rehashed,
                }));
            }
        }
    }
    Ok(Some(Verdict {
        correct: false,
        rehashed: None,
    }))
}

/// A hash of any kind that can be compared with.
enum Stored<'a> {
    Argon2(Box<Argon2<'static>>, Salt, Output),
    /// From an older installation.
    Bcrypt(&'a str),
}

impl<'a> Stored<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let is_bcrypt = |kind| text.starts_with(kind);
        if ["$2a$", "$2b$", "$2y$"].into_iter().any(is_bcrypt) {
            let parts: bcrypt::HashParts = text.parse().ok()?;
            return (parts.get_cost() <= MOST_BCRYPT_COST).then_some(Stored::Bcrypt(text));
        }
        let hash = PasswordHash::new(text).ok()?;
        let params = Params::try_from(&hash).ok()?;
        if params.m_cost() > MOST_MEMORY_KIB
            || params.t_cost() > MOST_PASSES
            || params.p_cost() > MOST_LANES
        {
            return None;
        }
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        // If the version is not named, it is the first one.
        let version = hash.version.map_or(Ok(Version::V0x10), Version::try_from);
        let argon2 = Argon2::new(algorithm, version.ok()?, params);
        Some(Stored::Argon2(Box::new(argon2), hash.salt?, hash.hash?))
    }

    fn matches(&self, password: &[u8], memory: &mut Memory) -> Result<Option<bool>, Problem> {
        Ok(match self {
            Stored::Argon2(argon2, salt, output) => {
                derive(argon2, password, salt, memory)?.map(|derived| derived == *output)
            }
            // bcrypt repeats a password after a NUL, so "a" and "a\0a" are the same for it.
            Stored::Bcrypt(text) => bcrypt::verify(password, text)
                .ok()
                .map(|verified| verified & !password.contains(&0)),
        })
    }
}

/// Refuses common passwords (NIST SP 800-63B, section 5.1.1.2). There are no composition rules.
fn refuse_weak(field: &str, password: &str, username: &str) -> Result<(), Problem> {
    if password.chars().count() < MINIMUM_LENGTH {
        return Err(Problem::invalid_field(
            field,
            "too_short",
            too_short(MINIMUM_LENGTH),
        ));
    }
    // Judging takes much longer for longer texts, so only the beginning is judged. If the beginning is hard to guess,
    // the password is too.
    let beginning: String = password.chars().take(64).collect();
    let estimate = zxcvbn::zxcvbn(&beginning, &[username, "speedcoding"]);
    if estimate.guesses_log10() >= MINIMUM_GUESSES.log10() {
        return Ok(());
    }
    let why = estimate
        .feedback()
        .and_then(|feedback| feedback.warning())
        .map_or_else(
            || "is easily guessed".to_owned(),
            |warning| {
                // They are sentences: "This is a top-10 common password."
                let mut warning = warning.to_string();
                if let Some(first) = warning.get_mut(..1) {
                    first.make_ascii_lowercase();
                }
                format!("is easily guessed: {warning}")
            },
        );
    let why = why.trim_end_matches('.');
    Err(Problem::invalid_field(
        field,
        "common_password",
        format!("{why}; choose a longer or rarer one, such as four unrelated words"),
    ))
}
