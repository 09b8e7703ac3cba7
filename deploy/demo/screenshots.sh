#!/usr/bin/env bash
# Runs the demo once and draws its output: docs/images/demo.svg.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
mkdir -p docs/images
out=$(mktemp)
trap 'rm -f "$out"' EXIT
./dev demo --once --plain | tee "$out"
/usr/bin/python3 deploy/demo/picture.py <"$out" >docs/images/demo.svg
echo "docs/images/demo.svg"
