#!/bin/sh
# Makes .venv with everything a contributor needs: by uv where it is installed, by plain pip otherwise.
# Both take the versions from the committed lock (uv.lock; requirements-dev.txt is its export, with hashes).
set -eu
cd "$(dirname "$0")/.."
say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 2; }

python=
for candidate in "${PYTHON:-}" python3.11 python3 python3.12 python3.13 /usr/bin/python3; do
  [ -n "$candidate" ] || continue
  if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(command -v "$candidate")
    break
  fi
done
[ -n "$python" ] || die "no Python 3.11 or newer found; install one (Debian 12: apt-get install python3 python3-venv) or set PYTHON"

stamp=.venv/.locked-by
wanted=$(cat pyproject.toml uv.lock requirements-dev.txt | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/llm-size ] && [ "$(cat $stamp 2>/dev/null || echo none)" = "$wanted" ]; then
  exit 0
fi

if command -v uv >/dev/null 2>&1; then
  say "installing the locked dependencies with uv"
  UV_SYSTEM_CERTS=1 uv sync --frozen --quiet --python "$python"
else
  say "installing the locked dependencies with pip (uv is not installed)"
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    [ "$(id -u)" = 0 ] || die "$python has no ensurepip; install python3-venv first"
    say "installing python3-venv"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  fi
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --require-hashes -r requirements-dev.txt
  .venv/bin/python -m pip install --quiet --no-deps --editable .
fi
echo "$wanted" >$stamp
say "done: $(.venv/bin/python --version), .venv/bin/llm-size"
