#!/usr/bin/env bash
# Makes .venv from a lock: `install.sh run` for `make up`, `install.sh test` adds what tests need.
set -euo pipefail
cd "$(dirname "$0")/.."
what="${1:-run}"
python="${PYTHON:-python3}"
uv_version=0.13.9

say() { printf '\033[2m%s\033[0m\n' "$*" >&2; }
die() { printf 'heed: %s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null || die "no $python found: install Python 3.11 or newer, or run make PYTHON=/path/to/python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  die "$("$python" --version) is too old: Heed needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11"
free_kib=$(df -Pk . | awk 'NR == 2 {print $4}')
[ -x .venv/bin/uv ] || [ "$free_kib" -gt 4000000 ] ||
  die "only $((free_kib / 1024)) MiB free on this disk: the environment needs about 3,900 MiB"

unset VIRTUAL_ENV PYTHONHOME PYTHONPATH CONDA_PREFIX
if [ ! -x .venv/bin/uv ]; then
  say "heed: making .venv"
  "$python" -m venv .venv || die "python's venv module is missing: on Debian or Ubuntu, apt-get install python3-venv"
  .venv/bin/python -m pip install --quiet "uv==$uv_version"
fi
# uv does not read pip's settings; a wheel folder or certificates set for pip, wherever, serve uv too.
of_pip() { .venv/bin/python -m pip config list | sed -nE "s/^[^ ]*\\.$1='(.*)'$/\\1/p" | tail -n 1; }
export UV_FIND_LINKS="${UV_FIND_LINKS:-$(of_pip find-links | tr ' ' ',')}" SSL_CERT_FILE="${SSL_CERT_FILE:-$(of_pip cert)}"
[ -n "$UV_FIND_LINKS" ] || unset UV_FIND_LINKS
[ -n "$SSL_CERT_FILE" ] || unset SSL_CERT_FILE
uv=(.venv/bin/uv pip install --python .venv/bin/python --quiet)

torch=$(grep -oE '^torch==[^ ]+' locks/run.txt)
if ! .venv/bin/python -c "import importlib.metadata as m, sys; sys.exit('torch==' + m.version('torch') != '$torch')" 2>/dev/null; then
  say "heed: installing $torch"
  refused=$("${uv[@]}" --no-deps "$torch" 2>&1) ||
    "${uv[@]}" --no-deps --index https://download.pytorch.org/whl/cpu "$torch" ||
    die "$torch cannot be had, not from download.pytorch.org, and not as pip is configured: $refused"
fi
say "heed: installing the locked packages ($what)"
"${uv[@]}" --no-deps -r "locks/$what.txt"
"${uv[@]}" --no-deps -e .
touch ".venv/.$what"
