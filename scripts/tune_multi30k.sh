#!/usr/bin/env bash
# The same budget of tuning for every method on Multi30k English-German at 90%: one change at a time.
#
#   bash scripts/tune_multi30k.sh FOLDER_OF_MULTI30K [OUTPUT]
#
# Runs of 1,500 steps (3 epochs), seed 1, scored on the validation text alone: no test set is read.
# Every change is a comparison of its own in OUTPUT; its table.md shows the validation losses. Given
# again it goes on where it stopped. METHODS, JOBS (2) and PRECISION (bf16) choose.
set -euo pipefail
data=${1:?give the folder of the Multi30k files}
output=${2:-runs/multi30k_tuning}
here=$(dirname "$0")
PATH="$PATH:$here/../.venv/bin"  # where scripts/install.sh puts hf-chts, if no other is found

tune() {  # the name of a change, the methods that it can change, and the change
    local name=$1 methods=$2
    shift 2
    OMP_NUM_THREADS=1 hf-chts compare "$here/../recipes/multi30k_en_de/small.yaml" \
        --output "$output/$name" --seeds 1 --methods "${METHODS:-$methods}" \
        --jobs "${JOBS:-2}" data.root="$data" \
        training.max_steps=1500 training.warmup_steps=300 training.evaluate_every=500 \
        training.precision="${PRECISION:-bf16}" evaluation.beams=1 \
        'data.test={validation: {files: [val.en.gz, val.de.gz]}}' "$@" \
        || (($? == 1))  # runs that diverge stay in the table, and the next change is tried
}

evolving=set,rigl,granet,chts,chtss
tune default "gmp,$evolving"
tune half_rate "gmp,$evolving" sparsity.base_density=0.1
tune double_rate "gmp,$evolving" sparsity.base_density=0.4
tune half_init "gmp,$evolving" sparsity.init_scale=0.25
tune stop_0.9 "gmp,$evolving" sparsity.stop_fraction=0.9
tune zeta_0.1 "$evolving" sparsity.zeta=0.1
tune interval_200 "gmp,$evolving" sparsity.update_interval=200
tune warm "$evolving" sparsity.new_links=warm
