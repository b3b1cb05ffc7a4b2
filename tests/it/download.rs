//! A machine without PostgreSQL fetches one: from a mirror on loopback, which serves the installed one as an archive.

use std::{
    collections::HashMap,
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA512, digest};
use poem::{
    Endpoint, IntoResponse, Request, Response, Server,
    http::StatusCode,
    listener::{Acceptor, Listener, TcpListener},
};
use tempfile::TempDir;

/// The answer of each path. Other paths answer 404.
type Files = HashMap<String, Vec<u8>>;

#[tokio::test]
async fn without_installed_programs_they_are_fetched_once() {
    let mirror = Mirror::of(pack(&installed_bin()));
    let data = data_dir();
    let url = serve(mirror.files.clone()).await;
    let first = migrate(data.path(), &url).await;
    assert!(first.status.success(), "{}", said(&first));
    assert!(String::from_utf8_lossy(&first.stdout).contains("Migrated: "));
    let bin = data
        .path()
        .join("binaries")
        .join(&mirror.version)
        .join("bin");
    assert!(bin.join("postgres").is_file(), "{}", said(&first));
    let fetching = said(&first).matches("fetching").count();
    assert_eq!(fetching, 1, "a line, not a flood: {}", said(&first));

    // The mirror is gone, and the program does not need it.
    let again = migrate(data.path(), "http://127.0.0.1:1").await;
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(
        String::from_utf8_lossy(&again.stdout),
        "The database is up to date.\n"
    );
}

#[tokio::test]
async fn what_does_not_match_its_checksum_is_refused() {
    let mut mirror = Mirror::of(b"never unpacked".to_vec());
    mirror
        .files
        .insert(mirror.checksum_path(), "0".repeat(128).into());
    let refusal = refused(mirror.files).await;
    assert!(refusal.contains("does not match its checksum"), "{refusal}");
}

#[tokio::test]
async fn a_mirror_without_the_archive_is_named_with_the_way_out() {
    let mut mirror = Mirror::of(b"never unpacked".to_vec());
    mirror.files.remove(&mirror.archive_path());
    let refusal = refused(mirror.files).await;
    assert!(refusal.contains("404 Not Found"), "{refusal}");

    let refusal = refused(Files::new()).await;
    assert!(refusal.contains("404 Not Found"), "{refusal}");
}

#[tokio::test]
async fn a_mirror_that_cannot_be_reached_is_told_once() {
    let data = data_dir();
    let output = migrate(data.path(), "http://127.0.0.1:1").await;
    let said = said(&output);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[0].ends_with("fetching PostgreSQL from 127.0.0.1"),
        "{said}"
    );
    assert!(lines[1].contains("127.0.0.1 cannot be reached"), "{said}");
}

/// The program's message if it has only this mirror. It leaves no files behind.
async fn refused(files: Files) -> String {
    let data = data_dir();
    let url = serve(files).await;
    let output = migrate(data.path(), &url).await;
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("127.0.0.1") && said.contains("DATABASE_URL"),
        "{said}"
    );
    let left: Vec<_> = fs::read_dir(data.path())
        .expect("the data directory")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name != "lock")
        .collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
    said
}

async fn migrate(data_dir: &Path, releases: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speedcoding"));
    command
        .arg("migrate")
        .current_dir(data_dir)
        .env_remove("DATABASE_URL")
        .env_remove("MIGRATION_DATABASE_URL")
        .env("NO_PROXY", "127.0.0.1")
        .env_remove("RUST_LOG")
        .env("LOG_FORMAT", "text")
        .env("DATA_DIR", data_dir)
        .env("POSTGRESQL_BINARIES", "fetched")
        .env("POSTGRESQL_RELEASES_URL", releases);
    tokio::task::spawn_blocking(move || command.output().expect("speedcoding"))
        .await
        .expect("an end")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Removed with the test, and open to the account that PostgreSQL runs under.
fn data_dir() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new()
        .prefix("speedcoding-download-")
        .tempdir()
        .expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("permissions");
    dir
}

/// The files of a Maven repository.
struct Mirror {
    version: String,
    files: Files,
}

impl Mirror {
    /// Offers an archive under the version of the installed PostgreSQL, among versions that do not suit.
    fn of(archive: Vec<u8>) -> Self {
        let output = Command::new(installed_bin().join("postgres"))
            .arg("--version")
            .output()
            .expect("postgres");
        // postgres (PostgreSQL) 15.18 (Debian …); Maven versions have three numbers.
        let text = String::from_utf8(output.stdout).expect("text");
        let version = text.split_whitespace().nth(2).expect("a version");
        let mut mirror = Mirror {
            version: format!("{version}.0"),
            files: Files::new(),
        };
        let checksum: String = digest(&SHA512, &archive)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let metadata = format!(
            "<metadata><groupId>io.zonky.test.postgres</groupId><artifactId>{0}</artifactId><versioning>\
             <latest>{1}</latest><release>{1}</release><versions><version>9.6.24</version><version>{1}</version>\
             <version>99.0.0</version></versions><lastUpdated>20260101000000</lastUpdated></versioning></metadata>",
            artifact(),
            mirror.version
        );
        mirror.files = Files::from([
            (
                format!("/pg/{}/maven-metadata.xml", artifact()),
                metadata.into(),
            ),
            (mirror.checksum_path(), checksum.into()),
            (mirror.archive_path(), archive),
        ]);
        mirror
    }

    fn archive_path(&self) -> String {
        let (artifact, version) = (artifact(), &self.version);
        format!("/pg/{artifact}/{version}/{artifact}-{version}.jar")
    }

    fn checksum_path(&self) -> String {
        format!("{}.sha512", self.archive_path())
    }
}

/// Serves files on loopback and returns the URL to give to the program.
async fn serve(files: Files) -> String {
    let acceptor = TcpListener::bind("127.0.0.1:0")
        .into_acceptor()
        .await
        .expect("a port");
    let address = acceptor.local_addr()[0].to_string();
    let files = StaticFiles(Arc::new(files));
    tokio::spawn(Server::new_with_acceptor(acceptor).run(files));
    format!("{address}/pg").replacen("socket://", "http://", 1)
}

struct StaticFiles(Arc<Files>);

impl Endpoint for StaticFiles {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        Ok(match self.0.get(request.uri().path()) {
            Some(file) => file.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        })
    }
}

fn artifact() -> String {
    let os = if cfg!(target_os = "macos") {
        "darwin"
    } else {
        "linux"
    };
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64v8"
    } else {
        "amd64"
    };
    let libc = if cfg!(target_env = "musl") {
        "-alpine"
    } else {
        ""
    };
    format!("embedded-postgres-binaries-{os}-{arch}{libc}")
}

fn installed_bin() -> PathBuf {
    let output = Command::new("pg_config").arg("--bindir").output();
    let named = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let mut dirs: Vec<PathBuf> = glob::glob("/usr/lib/postgresql/*/bin")
        .expect("a pattern")
        .filter_map(Result::ok)
        .chain(named.map(PathBuf::from))
        .filter(|dir| dir.join("postgres").is_file() && dir.join("initdb").is_file())
        .collect();
    dirs.sort();
    dirs.pop().expect("an installed PostgreSQL to pack")
}

/// A jar with a `.txz` inside, as zonky.io packs them: `bin`, `lib` and `share`. Debian's programs find `lib` beside
/// their own directory and `share` at its fixed place, which is there because they are installed.
fn pack(bin: &Path) -> Vec<u8> {
    let encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    let mut tar = tar::Builder::new(encoder);
    for program in ["postgres", "initdb"] {
        tar.append_path_with_name(bin.join(program), format!("bin/{program}"))
            .expect("a program");
    }
    let lib = bin.with_file_name("lib");
    for entry in fs::read_dir(lib).expect("libraries") {
        let entry = entry.expect("an entry");
        // What the migrations need is small; the just-in-time compiler is not.
        if entry.path().extension().is_some_and(|kind| kind == "so") {
            let name = Path::new("lib").join(entry.file_name());
            tar.append_path_with_name(entry.path(), name)
                .expect("a library");
        }
    }
    let archive = tar.into_inner().and_then(|encoder| encoder.finish());
    let mut jar = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    jar.start_file("postgres-linux.txz", stored)
        .expect("a file");
    jar.write_all(&archive.expect("an archive")).expect("room");
    jar.finish().expect("a jar").into_inner()
}
