//! The PostgREST of this machine, for tests and benchmarks: its path, and the way to start it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use url::Url;

/// The folder in which `.ci/run` keeps postrust. `cargo install postrust-server --root` puts it there.
pub fn cache() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(env::home_dir()?.join(".cache")));
    cache.unwrap_or_default().join("speedcoding/postrust")
}

/// The first program of these names, on PATH or in the cache.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = env::split_paths(&path)
        .chain([cache().join("bin")])
        .collect();
    let mut programs = names.iter().flat_map(|name| {
        directories
            .iter()
            .map(move |directory| directory.join(name))
    });
    programs.find(|program| program.is_file())
}

/// The path beneath which a program serves.
pub fn root(program: &Path) -> &'static str {
    if program.ends_with("postrust") {
        "/api"
    } else {
        ""
    }
}

/// The URL that it logs in with, once `authenticator` has this password.
pub fn database(owner: &str, password: &str) -> Url {
    let mut url = Url::parse(owner).expect("a URL");
    url.set_username("authenticator").expect("a user");
    url.set_password(Some(password)).expect("a password");
    url
}

/// The command that starts PostgREST as the service does beside the private PostgreSQL.
pub fn command(program: &Path, database: &Url, jwt_secret: &str, port: u16) -> Command {
    let mut command = Command::new(program);
    command
        .env("PGRST_DB_URI", database.as_str())
        .env("DATABASE_URL", database.as_str())
        .env("PGRST_DB_SCHEMAS", "public")
        .env("PGRST_DB_EXTRA_SEARCH_PATH", "public,extensions")
        .env("PGRST_DB_ANON_ROLE", "anon")
        .env("PGRST_DB_PRE_REQUEST", "speedcoding.check_request")
        .env("PGRST_DB_ERRORS_VERBATIM", "true")
        .env("PGRST_JWT_SECRET", jwt_secret)
        .env("PGRST_JWT_AUD", "authenticated")
        .env("PGRST_SERVER_HOST", "127.0.0.1")
        .env("PGRST_SERVER_PORT", port.to_string());
    command
}
