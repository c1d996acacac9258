#!/usr/bin/env bash
# Runs every check and test; the one command of CI. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin

# Where this is set, each of the hundreds of processes started here would compile all it imports anew: an engine's
# three interpreters take 89 s of CPU to be up so, and 48 s when what they import was compiled once.
unset PYTHONDONTWRITEBYTECODE

# The browser tests drive Chromium; a machine where we are root and apt exists gets it.
if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "heed: installing Chromium for the browser tests"
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
  else
    echo "heed: the browser tests need Chromium: install the package 'chromium' and run again" >&2
    exit 1
  fi
fi

if [ $# -eq 0 ]; then
  make --no-print-directory check
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "$bin/pytest" "$@"
