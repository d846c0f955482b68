#!/usr/bin/env bash
# Follows README.md to the letter in a fresh clone: its two commands, then tests/readme.lua. Minutes; needs what make deps
# needs. README_KEEP=1 leaves the clone there.
set -euo pipefail
cd "$(dirname "$0")/.."
clone=$(mktemp -d)
[ "${README_KEEP:-}" ] && echo "readme-check: $clone" || trap 'rm -rf "$clone"' EXIT
git clone -q . "$clone/lucid"
cd "$clone/lucid"
# The first commands that it shows, as they stand there.
awk '/^```sh$/ { inside = 1; next } /^```$/ && inside { exit } inside { sub(/ +#.*/, ""); print }' README.md > "$clone/commands"
[ "$(cat "$clone/commands")" = $'make deps demo\nmake deps test' ] || { echo 'readme-check: README.md begins with other commands' >&2; exit 1; }
make deps demo
make deps test | tee "$clone/test.log"
grep -Eq '^[0-9]+ passed, 0 failed' "$clone/test.log" || { echo 'readme-check: the tests have failed' >&2; exit 1; }
bin/lucid tests/readme.lua runs/demo numbers
echo 'readme-check: done'
