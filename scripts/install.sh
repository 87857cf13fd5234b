#!/usr/bin/env bash
# Makes .venv and installs the package into it; a second call with nothing changed does nothing.
#   bash scripts/install.sh [EXTRAS]      for example: dev
# PYTHON chooses the interpreter (3.10 or newer), TORCH the torch to install first.
set -euo pipefail
cd "$(dirname "$0")/.."
extras="${1:-}"
python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  { echo "Python 3.10 or newer is needed; set PYTHON to its path" >&2; exit 1; }
[ -x .venv/bin/python ] || "$python" -m venv .venv
stamp=".venv/.installed-${extras:-plain}"
state="$(cat pyproject.toml setup.py hf_chts/layers/kernels/native/*.cpp hf_chts/layers/kernels/native/*.h | sha256sum)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$state" ]; then
  pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
  .venv/bin/python -c 'import torch' 2>/dev/null || "${pip[@]}" "${TORCH:-torch==2.13.0}"
  "${pip[@]}" --editable ".${extras:+[$extras]}"
  echo "$state" > "$stamp"
fi
