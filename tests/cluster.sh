# For the checks that need a PostgreSQL, which source this file. It makes a throw-away cluster, starts it, and removes
# it at the end.
#
# Takes: name (for messages), speedcoding (the path of the binary), server_options (further settings, optional).
# Gives: $scratch (removed at the end), $programs, as_server, PGHOST, PGPORT, PGUSER, PGPASSWORD, url, sql, fail, step.
# If there is a function on_exit, it is called before the server is stopped.

step() { echo "$name: $*"; }
fail() {
  echo "$name: FAILED: $*" >&2
  exit 1
}

# --- a cluster of its own ---------------------------------------------------------------------------------

server_programs() {
  local directory
  for directory in "$(dirname "$(command -v initdb || echo /none/initdb)")" "$(pg_config --bindir 2>/dev/null)" \
    $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
    if [[ -x $directory/initdb && -x $directory/pg_ctl ]]; then
      echo "$directory"
      return
    fi
  done
  fail "no initdb: neither on PATH nor in /usr/lib/postgresql/*/bin (apt-get install postgresql)"
}
programs=$(server_programs)

scratch=$(mktemp -d "${TMPDIR:-/tmp}/speedcoding-$name.XXXXXX")
chmod 711 "$scratch" # with mktemp's mode 700 the server's account could not enter
mkdir "$scratch/server" "$scratch/home"

# PostgreSQL refuses to run as root.
as_server() { "$@"; }
if [[ $(id -u) == 0 ]]; then
  account=$(id -un postgres 2>/dev/null || echo nobody)
  chown "$account" "$scratch/server"
  as_server() { (cd / && exec runuser -u "$account" -- "$@"); }
fi

clean_up() {
  local status=$?
  trap - EXIT
  if declare -F on_exit >/dev/null; then on_exit || true; fi
  if [[ -e $scratch/server/data/postmaster.pid ]]; then
    as_server "$programs/pg_ctl" stop -w -s -m immediate -D "$scratch/server/data" || true
  fi
  rm -rf "$scratch"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

PGPASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export PGHOST=127.0.0.1 PGUSER=postgres PGPASSWORD
(umask 077 && echo "$PGPASSWORD" >"$scratch/server/password")
[[ $(id -u) != 0 ]] || chown "$account" "$scratch/server/password"
as_server "$programs/initdb" -D "$scratch/server/data" -U postgres -A scram-sha-256 \
  --pwfile="$scratch/server/password" -E UTF8 --locale=C --no-sync >"$scratch/initdb.log" 2>&1 ||
  fail "initdb: $(cat "$scratch/initdb.log")"

for attempt in 1 2 3 4 5 6 7 8 9 10; do
  export PGPORT=$((20000 + RANDOM % 20000))
  if as_server "$programs/pg_ctl" start -w -s -D "$scratch/server/data" -l "$scratch/server/log" \
    -o "-c listen_addresses=127.0.0.1 -c port=$PGPORT -c unix_socket_directories='' -c fsync=off ${server_options:-}"; then
    break
  fi
  [[ $attempt != 10 ]] || fail "the server does not start: $(tail -n 5 "$scratch/server/log")"
done 2>"$scratch/pg_ctl.log"

sql() { psql -XqAt -v ON_ERROR_STOP=1 -d "$@"; }
url() { echo "postgresql://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$1?sslmode=disable"; }

# The checks ignore the developer's own settings, and programs leave no files in the tree or in the home directory.
unset DATABASE_URL MIGRATION_DATABASE_URL DATA_DIR
export HOME=$scratch/home TMPDIR=$scratch/home
cd "$scratch/home"
