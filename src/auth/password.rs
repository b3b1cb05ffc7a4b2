//! Passwords: Argon2id in a bounded pool, so that hashing can neither fill the memory nor starve the rest.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

use crate::problem::Problem;

/// How many may wait for each one that is being hashed: a second or so of work.
const QUEUE_PER_PERMIT: usize = 32;
/// Guesses that an attacker who knows the usual lists needs at least.
const MINIMUM_GUESSES: f64 = 1e4;
/// What an unknown user's password is compared with, so that it takes as long as a known one's.
/// (The hash of 32 random bytes that nobody kept, with today's parameters.)
const NOBODYS_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$AzzT48qkOz5HfCc1wN7ZQw$VEwsoHjM1NMV9PRmThM0I2WoN+xelK6/foqU8/7fUAA";

/// Hashes and compares passwords: Argon2id, m = 19 MiB, t = 2, p = 1 (OWASP Password Storage Cheat Sheet).
///
/// Passwords are compared as NFC, so that the same keys on another system give the same password.
pub struct Passwords {
    /// One each for what is being hashed: as many as there are cores.
    permits: Arc<Semaphore>,
    /// One each for what is being hashed or waits for it.
    places: Arc<Semaphore>,
}

impl Passwords {
    /// A pool as wide as the machine has cores.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Passwords {
            permits: Arc::new(Semaphore::new(cores)),
            places: Arc::new(Semaphore::new(cores * (1 + QUEUE_PER_PERMIT))),
        }
    }

    /// The hash of a new password as a PHC string, or why the password will not do.
    pub async fn hash(&self, password: &SecretString, username: &str) -> Result<String, Problem> {
        let password = normalise(password);
        let username = username.to_owned();
        self.run(move || {
            let password = password.expose_secret();
            refuse_common(password, &username)?;
            let hash = Argon2::default()
                .hash_password(password.as_bytes())
                .map_err(|error| Problem::internal(error.to_string()))?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether the password is that of the hash; without a hash it takes as long, and is not.
    pub async fn verify(
        &self,
        password: &SecretString,
        hash: Option<String>,
    ) -> Result<bool, Problem> {
        let password = normalise(password);
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(NOBODYS_HASH);
            let hash =
                PasswordHash::new(hash).map_err(|error| Problem::internal(error.to_string()))?;
            let same = Argon2::default()
                .verify_password(password.expose_secret().as_bytes(), &hash)
                .is_ok();
            Ok(same && known)
        })
        .await
    }

    /// Runs in the pool. The permit moves into the task: a client that hangs up frees nothing early.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let crowded = || {
            Problem::unavailable(
                "overloaded",
                "Too many people are logging in: try again in a moment.",
            )
        };
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| crowded())?;
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(Problem::internal)?;
        tokio::task::spawn_blocking(move || {
            let _held = (place, permit);
            work()
        })
        .await
        .map_err(Problem::internal)?
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

fn normalise(password: &SecretString) -> SecretString {
    password.expose_secret().nfc().collect::<String>().into()
}

/// Refuses what stands on every list (NIST SP 800-63B, section 5.1.1.2); there are no composition rules.
fn refuse_common(password: &str, username: &str) -> Result<(), Problem> {
    // Its effort grows faster than the text; what begins so rarely is no common password.
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
            |warning| format!("is easily guessed: {warning}"),
        );
    let why = why.trim_end_matches('.');
    Err(Problem::invalid_field(
        "password",
        "common_password",
        format!("{why}; choose a longer or rarer one, such as four unrelated words"),
    ))
}
