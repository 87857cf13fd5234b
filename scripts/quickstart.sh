#!/usr/bin/env bash
# From nothing to a trained, 90%-sparse translation model: installs into .venv, trains on the
# embedded corpus, prints BLEU, sizes and translations. Safe to repeat; a new run replaces the old.
#   bash scripts/quickstart.sh [section.key=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/install.sh
exec .venv/bin/hf-chts train recipes/quickstart.yaml --output runs/quickstart --overwrite "$@"
