#!/usr/bin/env bash
# All methods, baselines and controls on Multi30k English-German at 90%, three seeds, in pieces.
#
#   bash scripts/compare_multi30k.sh FOLDER_OF_MULTI30K [OUTPUT] [section.key=value ...]
#
# Every call goes on where the last one stopped, trains for MINUTES (9) minutes, JOBS (2) runs at
# once, and writes the table and figures of what is there; OUTPUT/table.md says what is missing.
# METHODS, SPARSITY and SEEDS choose other cells, RECIPE=converged the longer training of
# recipes/multi30k_en_de/converged.yaml; compare_multi30k.yaml says what rows change and names
# further ones: METHODS=chts,chts_er,chts_paths,...
set -euo pipefail
data=${1:?give the folder of the Multi30k files}
output=${2:-runs/multi30k_methods}
shift $(($# < 2 ? $# : 2))
methods=dense,static,chts,chts_random,rigl,set,hebbian,granet,chtss,hebbian_sigmoid,cht,rigl_soft
methods+=,narrow-dense,hebbian_ch,set_cosine,static_brf,gmp,mest,shallow-decoder
here=$(dirname "$0")
PATH="$PATH:$here/../.venv/bin"  # where scripts/install.sh puts hf-chts, if no other is found
exec hf-chts compare "$here/../recipes/multi30k_en_de/${RECIPE:-small}.yaml" --output "$output" \
    --settings "$here/compare_multi30k.yaml" --methods "${METHODS:-$methods}" \
    --sparsity "${SPARSITY:-0.9}" --seeds "${SEEDS:-1,2,3}" \
    --jobs "${JOBS:-2}" --minutes "${MINUTES:-9}" data.root="$data" "$@"
