# The commands for working on SpeedCoding. `just` lists them (`cargo install just`, or your system's package).

program := env("CARGO_TARGET_DIR", "target") / "debug/speedcoding"

_list:
    @{{ just_executable() }} --list --unsorted

# the service with a PostgreSQL of its own, on http://127.0.0.1:8080; or another command: just run keys generate
run *ARGUMENTS:
    cargo run -- {{ ARGUMENTS }}

# paste the README's tour at a running service, and check the answers
tour ADDRESS="http://127.0.0.1:8080":
    cargo build
    tests/tour {{ ADDRESS }} {{ program }}

# a psql in the service's own database
psql:
    psql "$(cargo run --quiet -- db url)"

# check the settings, the database and PostgREST
doctor:
    cargo run --quiet -- doctor

# the tests, or some of them: just test boards::
test *FILTER:
    cargo test --test it {{ FILTER }}

# break everything around two replicas, and check what they promised: just history --seconds 600
history *ARGUMENTS:
    cargo test --test history -- {{ ARGUMENTS }}

# formatting, clippy, licences and crates
lint:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    "$(tests/tools house)/bin/cargo-deny" check --allow no-license-field licenses bans sources

# write the next migration from the functions in sql/functions that differ from the migrated ones
migration NAME:
    sql/new-migration {{ NAME }}

# write every generated file: document, catalog, error page, types
refresh:
    REFRESH=1 cargo test --test it generated:: -- --nocapture
    REFRESH=1 tests/supabase/run {{ program }}

# a benchmark of benches/: just bench service, just bench logins --help
bench NAME *ARGUMENTS:
    cargo bench --bench {{ NAME }} -- {{ ARGUMENTS }}

# clients against the document and the service: linters, generated TypeScript, a browser, schemathesis
clients:
    cargo build
    tests/clients/run {{ program }}

# Supabase's CLI against the migrations: push, advisors, linter, types
supabase:
    cargo build
    tests/supabase/run {{ program }}

# the tour on an external PostgreSQL: TLS, PgBouncer
external:
    cargo build
    tests/external/run {{ program }}

# everything that must hold before a change lands
ci:
    .ci/run
