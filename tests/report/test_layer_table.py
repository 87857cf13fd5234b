from made_up_runs import links, made_up_run, quiet
from run_files import a_mask

from hf_chts.analysis.measures import table
from hf_chts.report.layer_table import N_RANDOM, OF_DEGREES, OF_LINKS, OF_UPDATES, layer_tables

FC1, FC2 = "encoder.layers.0.fc1", "encoder.layers.0.fc2"
ATTENTION = "decoder.layers.0.self_attn.q_proj"
MASKS = {
    FC1: links("1100", "1100", "0000"),  # input degrees 2, 2, 0, 0
    FC2: links("1111", "0110", "1001"),  # input degrees 2, 2, 2, 2
    ATTENTION: links("0110", "0011", "1001", "1100"),
}


def update(step, name, removed, regrown, **more):
    return {"step": step, "name": name, "removed": removed, "regrown": regrown, **more}


UPDATES = [
    update(2, FC1, 1, 20, itop=0.25, active_neurons=1.0),
    update(2, FC2, 3, 40, itop=0.5),
    update(4, FC1, 100, 3000, itop=0.375, active_neurons=0.75),
    update(4, FC2, 7, 50, itop=0.625, active_neurons=None),
]


def tables(chosen=(), **known):
    return layer_tables(made_up_run(final=MASKS, **known), chosen, quiet)


def logged(found):
    return {name: cells[: len(OF_LINKS) + len(OF_UPDATES)] for name, cells in found.rows}


def test_cells_of_the_links_and_of_the_log():
    found = logged(tables(updates=UPDATES)[0])
    texts = {name: [cell.text for cell in cells] for name, cells in found.items()}
    assert texts["encoder.layers.0.fc1"] == [
        *("3 x 4", "4", "33.33%", "37.5%", "101", "3,020", "75.0%"),
    ]
    assert texts["encoder.layers.0.fc2"] == [
        *("3 x 4", "8", "66.67%", "62.5%", "10", "90", "not defined: residual stream"),
    ]
    no_update = "not defined: no update was logged"
    assert texts[ATTENTION] == [
        *("4 x 4", "8", "50.00%", no_update, no_update, no_update, "not defined: not logged"),
    ]


def test_without_updates_there_is_no_column_of_them():
    found = tables()[0]
    titles = [column.title for column in found.columns]
    assert titles[:4] == ["Neurons", "Links", "Density", "Input heterogeneity"]
    assert all(len(cells) == len(titles) for _, cells in found.rows)
    assert found.note.endswith("was logged, so the table says nothing of them.")
    assert "No topology update" not in tables(updates=UPDATES)[0].note


def test_columns_are_sorted_by_their_values():
    found = logged(tables(updates=UPDATES)[0])
    values = {name: [cell.value for cell in cells] for name, cells in found.items()}
    assert values[FC1] == [12, 4, 4 / 12, 0.375, 101, 3020, 0.75]
    assert values[ATTENTION] == [16, 8, 0.5, None, None, None, None]


def test_a_part_shows_the_mean_of_its_layers():
    found = tables()[1]
    assert [row[:2] for row in found.rows] == [
        ("encoder feed-forward", 2),
        ("decoder self-attention", 1),
    ]
    place = [column.title for column in found.columns].index("Input heterogeneity")
    # 2 and 1 for the feed-forward layers
    assert [cells[place] for _, _, cells in found.rows] == ["1.5 ± 0.5", "1 ± 0"]


def test_equal_layers_have_no_spread():
    """Rounding gives six times 10 / 9 a standard deviation of 2e-16."""
    masks = {f"encoder.layers.{i}.fc1": links("11", "01") for i in range(6)}
    found = layer_tables(made_up_run(final=masks), [], quiet)[1]
    place = [column.title for column in found.columns].index("Input heterogeneity")
    assert found.rows[0][2][place] == "1.11 ± 0"


def test_chosen_layers_are_compared_with_random_ones():
    masks = {FC1: a_mask(), FC2: a_mask(seed=1)}
    found = layer_tables(made_up_run(final=masks), [FC2], quiet)[0]
    assert f"for 1 of 2 layers, count standard deviations from the mean of {N_RANDOM}" in found.note
    titles = [column.title for column in found.columns]
    alone, compared = (dict(zip(titles, cells, strict=True)) for _, cells in found.rows)
    assert not any(cell.note for cell in alone.values())
    of_degrees = {name.replace("_", " ").capitalize() for name in OF_DEGREES}
    assert {title for title, cell in compared.items() if not cell.note} == of_degrees | {
        column.title for column in OF_LINKS
    }
    (row,) = table({FC2: masks[FC2]}, measures=["assortativity"], n=N_RANDOM)
    cell, value = compared["Assortativity"], row.comparison.value
    assert (cell.value, cell.text) == (value, f"{value:.3g}")
    assert cell.note == f"z {row.comparison.z_score:+.1f}"


def test_measures_that_do_not_exist_say_why():
    empty = made_up_run(final={FC1: links("00", "00")})
    found = layer_tables(empty, [], quiet)[0]
    cells = found.rows[0][1][len(OF_LINKS) :]
    assert {cell.text for cell in cells if cell.value is None} >= {
        "not defined: no neuron has a link"
    }


def test_a_run_without_links_has_no_table():
    assert layer_tables(made_up_run(), [], quiet) is None
