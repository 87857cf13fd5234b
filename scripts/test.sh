#!/usr/bin/env bash
# The one definition of green: format, lint, types, tests. Sets up what it needs; safe to repeat.
#   bash scripts/test.sh [PYTEST ARGUMENTS]      for example: -m slow, or tests/test_topology.py
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/install.sh dev
bin=.venv/bin
$bin/ruff format --check .
$bin/ruff check .
$bin/mypy
# One thread a worker: workers share the cores.
OMP_NUM_THREADS=1 $bin/python -m pytest -n auto -m "not slow" "$@"
