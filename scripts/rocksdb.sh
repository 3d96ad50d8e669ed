#!/usr/bin/env bash
# Fetches the RocksDB library that matches Cargo.lock and prints its folder, for
# ROCKSDB_LIB_DIR. It is the RocksDB project's own release build: the library inside its
# Java package exports the whole C API. Saves 15 minutes of C++ on a small machine.
# Prints nothing if it cannot be had (or if DRIFTLINE_ROCKSDB=source): then cargo builds it.
set -euo pipefail
. "$(dirname "$0")/env.sh"

from_source() {
  say "$1: RocksDB will be built from source, once, about 15 minutes on 2 cores."
  exit 0
}

[ "${DRIFTLINE_ROCKSDB:-}" != source ] || from_source "DRIFTLINE_ROCKSDB=source"
[ -n "$ROCKSDB_VERSION" ] || from_source "Cargo.lock names no librocksdb-sys"

library=librocksdb.so
libc=
if ls /lib/ld-musl-* >/dev/null 2>&1; then libc=-musl; fi
case $(uname -s)-$(uname -m) in
  Linux-x86_64) inside=librocksdbjni-linux64$libc.so ;;
  Linux-aarch64) inside=librocksdbjni-linux-aarch64$libc.so ;;
  Darwin-x86_64) inside=librocksdbjni-osx-x86_64.jnilib library=librocksdb.dylib ;;
  Darwin-arm64) inside=librocksdbjni-osx-arm64.jnilib library=librocksdb.dylib ;;
  *) from_source "no ready-made library for $(uname -sm)" ;;
esac

if [ -f "$ROCKSDB_CACHE/$library" ]; then
  echo "$ROCKSDB_CACHE"
  exit
fi
have mvn || from_source "no Maven to fetch the library with"

say "Fetching RocksDB $ROCKSDB_VERSION (usually 10 s)."
mkdir -p "$DRIFTLINE_CACHE/rocksdb"
tmp=$(mktemp -d "$DRIFTLINE_CACHE/rocksdb/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
mvn_quiet org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
  -Dartifact="org.rocksdb:rocksdbjni:$ROCKSDB_VERSION" -DoutputDirectory="$tmp" ||
  from_source "RocksDB $ROCKSDB_VERSION could not be fetched"

jar=rocksdbjni-$ROCKSDB_VERSION.jar
if have unzip; then
  unzip -q "$jar" "$inside"
elif have jar; then
  jar xf "$jar" "$inside"
else
  python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2])' "$jar" "$inside"
fi 2>/dev/null || true
[ -f "$inside" ] || from_source "$inside could not be taken out of its package"

# A library on macOS carries its own name, which the program would look for at run time.
if [ "$library" = librocksdb.dylib ]; then
  { install_name_tool -id "@rpath/$library" "$inside" && codesign -f -s - "$inside"; } 2>/dev/null ||
    from_source "install_name_tool or codesign failed"
fi

# Rename within one file system: nobody ever sees half a library.
mkdir -p "$ROCKSDB_CACHE"
mv -f "$inside" "$ROCKSDB_CACHE/$library"
echo "$ROCKSDB_CACHE"
