"""Which runs are set against each other."""

import json

from made_up_comparison import write_comparison, write_done, write_failed

from hf_chts.comparison.results import read_comparison
from hf_chts.comparison.rows import findings


def test_a_baseline_of_another_sparsity_is_no_rival(tmp_path) -> None:
    folder = tmp_path / "all"
    for cell in write_comparison(folder, ["set", "chts"], (0.9, 0.95), seeds=[1]):
        write_done(folder, cell)
    record = json.loads((folder / "comparison.json").read_text())
    record["cells"].remove({"method": "set", "sparsity": 0.95, "seed": 1})
    (folder / "comparison.json").write_text(json.dumps(record))
    rows = {
        (row.method, row.sparsity): row for row in findings(read_comparison(folder), "set").rows
    }
    assert rows["chts", 0.9].differences
    assert not rows["chts", 0.95].differences
    assert not rows["chts", 0.95].p_values


def test_seeds_that_the_baseline_lacks_take_no_p_value_from_the_others(tmp_path) -> None:
    folder = tmp_path / "all"
    for cell in write_comparison(folder, ["dense", "set"], seeds=[1, 2]):
        if cell.name == "dense-2":
            write_failed(folder, cell, "diverged", "step 7: the loss is nan")
        else:
            write_done(folder, cell)
    found = findings(read_comparison(folder), "dense")
    assert found.rows[1].p_values["bleu/test2016"] < 0.01
    assert found.rows[1].differences["bleu/test2016"].n == 1
    assert not any("no p-value" in gap for gap in found.gaps)
