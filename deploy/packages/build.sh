#!/usr/bin/env bash
# Debian packages from a release build: deploy/packages/build.sh BUILD_DIRECTORY [VERSION [OUTPUT]]
# Without a version it is the project's with the commit behind it; without OUTPUT they lie in BUILD_DIRECTORY/package.
set -euo pipefail
build=$(readlink -f "$1")
output=${3:-$build/package}
options=(-D "CPACK_PACKAGE_DIRECTORY=$output" -D "CPACK_DEBIAN_COMPRESSION_TYPE=${TUTTI_DEB_COMPRESSION:-xz}")
[ -z "${2:-}" ] || options+=(-D "CPACK_DEBIAN_PACKAGE_VERSION=$2")
mkdir -p "$output"
rm -f "$output"/tutti-*.deb
log=$(mktemp)
trap 'rm -f "$log"' EXIT
(cd "$build" && umask 022 && cpack "${options[@]}") >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
rm -rf "$output/_CPack_Packages"
ls "$output"/tutti-*.deb
