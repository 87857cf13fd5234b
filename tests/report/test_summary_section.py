import pytest
from made_up_runs import links, made_up_run

from hf_chts.report.summary import Tile, duration, score_table, size_table, tiles

RECIPE = {
    "data": {"source_lang": "en", "target_lang": "de"},
    "model": {"family": "marian"},
    "sparsity": {"method": "chts", "sparsity": 0.9},
    "training": {"max_steps": 2000},
}
SIZES = {
    "linear_parameters": 1000,
    "dense_linear_parameters": 8000,
    "parameters": 3000,
    "dense_parameters": 12000,
    "optimizer_bytes": 2_500_000,
    "dense_optimizer_bytes": 10_000_000,
    "file_bytes": 1_000_000,
}


def score(value, signature):
    return {"value": value, "signature": signature}


SCORES = {
    "first": {"bleu": score(21.456, "tok:13a"), "ter": score(60.0, "ter"), "n_sentences": 3003},
    "second": {"bleu": score(9.0, "tok:13a"), "paper_bleu": score(20.0, "lc"), "n_sentences": 7},
}


@pytest.fixture
def run():
    return made_up_run(
        recipe=RECIPE,
        environment={"processor": "a processor", "threads": 8},
        metrics=[
            {"step": 600, "eval_loss": 3.0},
            {"step": 1500, "train_steps_per_second": 2.345},  # of its last part, since step 600
        ],
        updates=[{"step": 1200}],
        scores=SCORES,
        training_seconds=5400.0,
        sizes=SIZES,
        final={"fc1": links("1000", "0000"), "fc2": links("11", "00")},
    )


def test_tiles_of_a_sparse_run(run):
    assert tiles(run, "97.5%", 0.345) == [
        Tile("Method", "chts", "1,500 of 2,000 steps"),
        Tile("Sparsity", "90.0%", "measured density 25.00%"),
        Tile("Task", "en → de", "marian, 2 sparse layers"),
        Tile("BLEU", "21.46", "on first"),
        Tile("Size", "0.250 of dense", "3,000 parameters in all"),
        Tile("Training time", "90.0 min", "a processor, threads: 8"),
        Tile("ANP", "97.5%", "neurons between layers that are active"),
        Tile("ITOP", "34.5%", "links that were active at some time"),
    ]


def test_tiles_of_a_run_of_which_nothing_is_known():
    assert tiles(made_up_run(), "unknown", None) == [
        Tile("Method", "unknown", "0 of ? steps"),
        Tile("Sparsity", "unknown"),
        Tile("Task", "? → ?", "pretrained model, 0 sparse layers"),
        Tile("BLEU", "none yet", "the run has not been scored"),
        Tile("Size", "unknown"),
        Tile("Training time", "unknown"),
        Tile("ANP", "unknown", "neurons between layers that are active"),
        Tile("ITOP", "unknown", "links that were active at some time"),
    ]


def test_a_dense_run_has_no_tile_about_links():
    found = [tile.label for tile in tiles(made_up_run(dense=True), "unknown", None)]
    assert found == ["Method", "Task", "BLEU", "Size", "Training time"]


def test_scores_of_all_runs_point_to_their_signatures(run):
    other = made_up_run(name="other", scores={"first": {"bleu": score(1.0, "lc")}})
    rows, signatures = score_table([run, other])
    assert signatures == ["tok:13a", "ter", "lc"]
    assert [(row.run, row.test_set, row.sentences) for row in rows] == [
        ("made up", "first", "3,003"),
        ("made up", "second", "7"),
        ("other", "first", "?"),
    ]
    assert [row.values for row in rows] == [
        ["21.46", "-", "60.00", "-"],
        ["9.00", "-", "-", "20.00"],
        ["1.00", "-", "-", "-"],
    ]
    assert [row.marks for row in rows] == [
        ["1", "", "2", ""],
        ["1", "", "", "3"],
        ["3", "", "", ""],
    ]


def test_sizes_and_speed_of_all_runs(run):
    machine = "a processor, threads: 8"
    found = size_table([run, made_up_run(environment={"gpu": "a GPU"})])
    assert [(label, [(cell.value, cell.note) for cell in cells]) for label, cells in found] == [
        ("parameters in sparse layers", [("1,000", "0.125 of dense"), ("-", "")]),
        ("parameters in all", [("3,000", "0.250 of dense"), ("-", "")]),
        ("optimizer state", [("2.50 MB", "0.250 of dense"), ("-", "")]),
        ("file of the weights", [("1.00 MB", ""), ("-", "")]),
        ("training time", [("90.0 min", machine), ("unknown", "a GPU")]),
        ("steps per second", [("0.28", ""), ("-", "")]),
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown"),
        (0.4, "0 s"),
        (119.4, "119 s"),
        (120, "2.0 min"),
        (7199, "120.0 min"),
        (7200, "2.0 h"),
        (90000, "25.0 h"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
