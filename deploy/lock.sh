#!/usr/bin/env bash
# Resolves pyproject.toml into locks/: names, versions and hashes, and no index address.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_FIND_LINKS="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}"
[ -n "$UV_FIND_LINKS" ] || unset UV_FIND_LINKS
uv="${UV:-.venv/bin/uv}"
resolve=("$uv" pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet)
"${resolve[@]}" --extra worker --extra cpu --extra test -o locks/test.txt
"${resolve[@]}" --extra worker --extra cpu -c locks/test.txt -o locks/run.txt
"${resolve[@]}" -c locks/test.txt -o locks/gateway.txt
# Clients that tests point at the gateway, in an environment of their own.
"${resolve[@]/pyproject.toml/tests/clients/requirements.in}" -o locks/clients.txt
# TRL's trainers, and what speaks S3, over the main environment: only what that does not hold.
for over in trainers objects; do
  "${resolve[@]/pyproject.toml/tests/$over/requirements.in}" -c locks/test.txt -o "locks/$over.txt"
  awk -F'==' 'NR == FNR {has[$1]; next} /^[a-z0-9]/ {keep = !($1 in has)} keep' locks/test.txt "locks/$over.txt" >"locks/$over.txt.new"
  mv "locks/$over.txt.new" "locks/$over.txt"
done
# torch has one wheel a Python version and the hash of only one of them would be listed.
for lock in locks/test.txt locks/run.txt; do
  awk '/^torch==/ {sub(/ \\$/, ""); print; skip = 1; next} skip && /^    --hash/ {next} {skip = 0; print}' "$lock" >"$lock.new"
  mv "$lock.new" "$lock"
done
