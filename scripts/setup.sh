#!/usr/bin/env bash
# Makes this machine ready to build and run; `setup.sh test` adds what only the tests need,
# `setup.sh build` leaves out the broker.
# Looks before it acts: run again, it does nothing and takes a moment.
set -euo pipefail
. "$(dirname "$0")/env.sh"

RUST_MIN=1.89
missing=()
# need PACKAGE COMMAND...: PACKAGE is missing unless COMMAND succeeds.
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

# bindgen, for RocksDB's C API, loads libclang and reads clang's own headers.
libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] ||
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' ||
    compgen -G '/usr/lib*/libclang*.so*' || [ -d /Library/Developer/CommandLineTools ]
}
# Ubuntu's package is a snap, which does not start without its daemon: there the test of the page skips.
chromium_there() {
  [ -n "${CHROMIUM:-}" ] || have chromium || have chromium-browser || have google-chrome || have chrome ||
    [ "$(. /etc/os-release 2>/dev/null && echo "${ID:-}")" = ubuntu ]
}
compilers() { have cc && have c++ && have make; }

need build-essential compilers
need pkg-config have pkg-config
need libssl-dev pkg-config --exists openssl
need zlib1g-dev pkg-config --exists zlib
need libclang-dev libclang
if ! "$ROOT/scripts/broker.sh" can-start; then
  need default-jre-headless java_17
  need maven have mvn
elif [ -z "${ROCKSDB_LIB_DIR:-}" ] && [ "${DRIFTLINE_ROCKSDB:-}" != source ] && [ "$(id -u)" = 0 ]; then
  need maven have mvn # only saves time (RocksDB), so nobody is asked for a password for it
fi
[ "${1:-}" != test ] || need kcat have kcat
[ "${1:-}" != test ] || need chromium chromium_there
[ "${1:-}" != test ] || need "postgresql openssl" "$ROOT/scripts/postgres.sh" can-start
[ "${1:-}" != test ] || need "redis-server openssl" "$ROOT/scripts/redis.sh" can-start

if [ ${#missing[@]} -gt 0 ]; then
  list=${missing[*]}
  have apt-get || die "missing: $list (Debian's names). Install your system's packages for them, then run this again."
  command="apt-get update && apt-get install -y --no-install-recommends $list"
  sudo=
  if [ "$(id -u)" != 0 ]; then
    { [ -t 0 ] && have sudo; } || die "missing: $list. Get them with: sudo sh -c '$command'"
    read -r -p "driftline: missing: $list. Install them with sudo? [y/N] " answer
    case $answer in [yY]*) sudo=sudo ;; *) die "Get them with: sudo sh -c '$command'" ;; esac
  fi
  say "Installing $list (usually under a minute)."
  log=$(mktemp)
  # shellcheck disable=SC2086 # $sudo may be empty
  $sudo env DEBIAN_FRONTEND=noninteractive sh -c "$command" >"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; die "apt-get failed; its words are above, all of them in $log."; }
  rm -f "$log"
fi

# Rust. A rustup that is installed but not on the PATH is the usual state right after
# installing it.
have cargo || [ ! -x "$HOME/.cargo/bin/cargo" ] ||
  die "cargo is installed but not on the PATH: run . \"\$HOME/.cargo/env\", then this again."
if ! have cargo || ! have rustc; then
  if have apt-cache && apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
    die "Rust is missing. Get it with: apt-get install -y rustup && rustup default stable"
  fi
  die "Rust $RUST_MIN or newer is missing. Get it with rustup: https://rustup.rs"
fi
rust=$(rustc --version | sed 's/^rustc \([0-9]*\.[0-9]*\).*/\1/')
if [ "${rust%%.*}" -eq "${RUST_MIN%%.*}" ] && [ "${rust#*.}" -lt "${RUST_MIN#*.}" ]; then
  die "Rust $rust is too old, $RUST_MIN is the oldest that works. Update it with: rustup update stable"
fi
bin=$(rustc --print sysroot)/bin
if ! { [ -x "$bin/cargo-fmt" ] && [ -x "$bin/cargo-clippy" ]; } &&
  ! { have rustfmt && have clippy-driver && ! have rustup; }; then
  die "rustfmt or clippy is missing. Get them with: rustup component add rustfmt clippy"
fi

"$ROOT/scripts/rocksdb.sh" >/dev/null
[ "${1:-}" = build ] || "$ROOT/scripts/broker.sh" prepare
[ ! -t 2 ] || say "This machine is ready."
