# The commands for working on SpeedCoding. `just` lists them (`cargo install just`, or your system's package).

program := env("CARGO_TARGET_DIR", "target") / "debug/speedcoding"

_list:
    @{{ just_executable() }} --list --unsorted

# run the service with its own PostgreSQL, on http://127.0.0.1:8080; or another command: just run keys generate
run *ARGUMENTS:
    cargo run -- {{ ARGUMENTS }}

# run the README's tour against a running service, and check the answers
tour ADDRESS="http://127.0.0.1:8080":
    cargo build
    tests/tour {{ ADDRESS }} {{ program }}

# open psql in the service's own database
psql:
    psql "$(cargo run --quiet -- db url)"

# check the settings, the database and PostgREST
doctor:
    cargo run --quiet -- doctor

# run the tests, or some of them: just test boards::
test *FILTER:
    cargo test --test it {{ FILTER }}

# cause faults around two replicas, and check that no data is lost: just history --seconds 600
history *ARGUMENTS:
    cargo test --test history -- {{ ARGUMENTS }}

# check formatting, clippy, licences and crates
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

# run a benchmark of benches/: just bench service, just bench logins --help
bench NAME *ARGUMENTS:
    cargo bench --bench {{ NAME }} -- {{ ARGUMENTS }}

# check the document and the service with clients: linters, generated TypeScript, a browser, schemathesis
clients:
    cargo build
    tests/clients/run {{ program }}

# check the migrations with Supabase's CLI: push, advisors, linter, types
supabase:
    cargo build
    tests/supabase/run {{ program }}

# run the tour on an external PostgreSQL: TLS, PgBouncer
external:
    cargo build
    tests/external/run {{ program }}

# run all checks that must pass before a change lands
ci:
    .ci/run
