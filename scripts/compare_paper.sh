#!/usr/bin/env bash
# A task with the settings of the CHTs paper (d 512, 6 + 6 layers): all methods at 90%, three seeds, in
# pieces. Wants a GPU.
#
#   bash scripts/compare_paper.sh TASK DATA [OUTPUT] [section.key=value ...]
#
# TASK is a folder of recipes: multi30k_en_de, wmt17_en_de, iwslt14_de_en, europarl_en_fr, ...; DATA the
# folder of its files, or "hub". Every call goes on where the last one stopped, trains for MINUTES (9)
# minutes, JOBS (4) runs at once, and writes the table, which has the paper's own BLEU beside ours, and
# the figures of what is there; OUTPUT/table.md says what is missing. METHODS, SPARSITY and SEEDS choose.
set -euo pipefail
task=${1:?give a folder of recipes, such as multi30k_en_de}
data=${2:?give the folder of the text, or hub}
output=${3:-runs/paper_$task}
shift $(($# < 3 ? $# : 3))
methods=dense,chts,chtss,rigl,set,granet,gmp,mest,cht,static,chts_random,chts_tied,chtss_tied
here=$(dirname "$0")
PATH="$PATH:$here/../.venv/bin"  # where scripts/install.sh puts hf-chts, if no other is found
[ "$data" = hub ] || set -- data.root="$data" "$@"
exec hf-chts compare "$here/../recipes/$task/base.yaml" --output "$output" \
    --settings "$here/compare_paper.yaml" --methods "${METHODS:-$methods}" \
    --sparsity "${SPARSITY:-0.9}" --seeds "${SEEDS:-1,2,3}" \
    --jobs "${JOBS:-4}" --minutes "${MINUTES:-9}" "$@"
