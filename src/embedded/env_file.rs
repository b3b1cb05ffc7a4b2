//! `embedded.env`: the secrets and the port, as lines that a shell or a `.env` reader understands.

use std::{
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fs_err as fs;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;

use crate::random::random_bytes;

const HEADER: &str = "# Secrets of the private PostgreSQL of speedcoding. Delete a line to have a new secret made.\n";

/// The owner may edit the file. Lines of other programs are kept.
pub(super) struct EnvFile {
    path: PathBuf,
    text: String,
}

impl EnvFile {
    pub fn load(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => HEADER.to_owned(),
            text => text?,
        };
        // The reader's own error would quote the line with the secret.
        ensure!(
            dotenvy::from_read_iter(text.as_bytes()).all(|line| line.is_ok()),
            "{} cannot be read as NAME=value lines; mend it, or delete it to have new secrets made",
            path.display()
        );
        let path = path.to_owned();
        Ok(Self { path, text })
    }

    pub fn get(&self, name: &str) -> Option<SecretString> {
        dotenvy::from_read_iter(self.text.as_bytes())
            .flatten()
            .filter(|(known, value)| known == name && !value.is_empty())
            .last()
            .map(|(_, value)| value.into())
    }

    pub fn get_or_generate(&mut self, name: &str) -> Result<SecretString> {
        if let Some(value) = self.get(name) {
            return Ok(value);
        }
        // This alphabet needs no quotes in SQL, in a URL or in the file.
        let value = BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<36>()?);
        self.set(name, &value);
        Ok(value.into())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.text += &format!("{name}={value}\n");
    }

    pub fn remove(&mut self, name: &str) {
        let old = format!("{name}=");
        let kept = self.text.lines().filter(|line| !line.starts_with(&old));
        self.text = kept.map(|line| format!("{line}\n")).collect();
    }

    /// Writes a new file and renames it. Readers see the old file or the new one, even after a crash. Other accounts
    /// can read neither.
    pub fn save(&self, dir: &Path) -> Result<()> {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            return Ok(());
        }
        let mut new = NamedTempFile::new_in(dir)?;
        new.write_all(self.text.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// A connection URL for the owner, by the socket in a directory or by loopback. The URL turns TLS off. TLS protects
/// nothing there, and some clients would insist on it.
pub(super) fn connection_url(
    password: &SecretString,
    sockets: Option<&Path>,
    port: u16,
) -> SecretString {
    let host = match sockets {
        Some(dir) => percent_encode(dir.as_os_str().as_bytes(), NON_ALPHANUMERIC).to_string(),
        None => Ipv4Addr::LOCALHOST.to_string(),
    };
    // Generated passwords need no escape. A password that the owner set may need one.
    let password = percent_encode(password.expose_secret().as_bytes(), NON_ALPHANUMERIC);
    format!("postgresql://postgres:{password}@{host}:{port}/speedcoding?sslmode=disable").into()
}
