"""Figures of made-up runs: what is drawn, and that it can be told apart."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_rows import METHODS, a_row, made_up_rows

from hf_chts.comparison.figures import (
    bleu_by_sparsity,
    quality_by_weights,
    validation_loss,
    write_figures,
)

SETS = ["test2016", "test2017"]


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_line_for_every_method_and_a_level_for_dense() -> None:
    rows = made_up_rows()
    figure = bleu_by_sparsity(rows, SETS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"BLEU on {n}" for n in SETS]
    drawn = lines(figure.axes[0])
    assert set(drawn) == set(METHODS) == set(legend(figure))
    expected = [row.values["bleu/test2016"].mean for row in rows if row.method == "rigl"]
    np.testing.assert_allclose(drawn["rigl"].get_ydata(), expected)
    assert len(set(drawn["dense"].get_ydata())) == 1
    ticks = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert ticks == ["90%", "95%", "98%"]


def test_no_two_methods_look_the_same() -> None:
    drawn = lines(bleu_by_sparsity(made_up_rows(), SETS).axes[0])
    looks = [(line.get_color(), line.get_linestyle()) for line in drawn.values()]
    assert len(set(looks)) == len(METHODS)


def test_error_bars_are_standard_errors() -> None:
    row = a_row("rigl", 0.9)
    figure = bleu_by_sparsity([row], ["test2016"])
    ((bars,), value) = figure.axes[0].collections, row.values["bleu/test2016"]
    (segment,) = bars.get_segments()
    np.testing.assert_allclose(np.ptp(segment[:, 1]), 2 * value.standard_error)


def test_the_band_of_a_level_is_one_standard_error_either_way() -> None:
    row = a_row("dense", 0.0)
    (band,) = bleu_by_sparsity([row], ["test2016"]).axes[0].patches
    error = row.values["bleu/test2016"].standard_error
    np.testing.assert_allclose(band.get_height(), 2 * error)


def test_one_sparsity_names_its_methods_below() -> None:
    rows = made_up_rows(sparsities=(0.9,))
    figure = bleu_by_sparsity(rows, SETS)
    ticks = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert sorted(ticks) == sorted(METHODS[2:])
    means = {row.method: row.values["bleu/test2016"].mean for row in rows}
    assert [means[method] for method in ticks] == sorted(
        (means[method] for method in ticks), reverse=True
    )
    assert legend(figure) == ["dense", "shallow-decoder"]
    places = [line.get_xdata()[0] for line in list(lines(figure.axes[0]).values())[2:]]
    np.testing.assert_allclose(places, figure.axes[1].get_xticks())


def test_a_long_legend_stays_inside_the_figure() -> None:
    rows = [replace(a_row("rigl", 0.9), method=f"method_{n}") for n in range(30)]
    both = [*rows, *(replace(row, sparsity=0.95) for row in rows)]
    for figure in (
        validation_loss(rows), bleu_by_sparsity(both, SETS), quality_by_weights(both, SETS)
    ):  # fmt: skip
        figure.canvas.draw()
        assert len(legend(figure)) == 30
        box = figure.legends[0].get_window_extent()
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_rows_stand_at_their_weights_and_sparsities_are_joined() -> None:
    rows = made_up_rows(methods=("dense", "rigl"))
    figure = quality_by_weights(rows, SETS)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Validation loss", "BLEU on test2016", "BLEU on test2017"]
    for axes, measure in zip(
        figure.axes, ("validation_loss", "bleu/test2016", "bleu/test2017"), strict=True
    ):
        drawn = lines(axes)
        np.testing.assert_allclose(drawn["dense"].get_xdata(), [1.52e6])
        np.testing.assert_allclose(drawn["rigl"].get_xdata(), [5.4e5, 5.7e5, 6.2e5])
        mine = [row for row in rows if row.method == "rigl"][::-1]  # denser means heavier
        means = [row.values[measure].mean for row in mine]
        np.testing.assert_allclose(drawn["rigl"].get_ydata(), means)


def test_rows_of_unknown_weight_are_left_out() -> None:
    row = a_row("rigl", 0.9)
    values = {name: value for name, value in row.values.items() if name != "trained_weights"}
    figure = quality_by_weights([a_row("dense", 0.0), replace(row, values=values)], SETS)
    figure.canvas.draw()
    assert legend(figure) == ["dense"]


def test_loss_is_drawn_against_steps_and_operations() -> None:
    rows = made_up_rows(methods=("dense", "rigl"), sparsities=(0.9, 0.95))
    figure = validation_loss(rows)
    assert len(figure.axes) == 4
    for by_step, by_flops, row in zip(figure.axes[::2], figure.axes[1::2], rows[1:], strict=True):
        drawn = lines(by_step)
        assert set(drawn) == {"dense", "rigl"}
        mean = np.mean([[loss for _, loss in run.losses] for run in row.runs], axis=0)
        np.testing.assert_allclose(drawn["rigl"].get_ydata(), mean)
        assert drawn["rigl"].get_xdata()[-1] == 3000
        ends = [line.get_xdata()[-1] for line in by_flops.lines]
        np.testing.assert_allclose(ends, [rows[0].runs[0].flops[-1], row.runs[0].flops[-1]])
        low, high = by_step.get_ylim()
        assert low < mean[-1] < high < mean[0]


@pytest.mark.parametrize("sparsities", [(0.0, 0.9), (0.9, 0.0)])
def test_a_method_that_was_dense_too_is_drawn_at_the_sparsity_of_the_panel(sparsities) -> None:
    rows = [a_row("static", sparsity) for sparsity in sparsities]
    (sparse,) = (row for row in rows if row.sparsity)
    rows[rows.index(sparse)] = replace(sparse, runs=sparse.runs[:1])
    mine = lines(validation_loss(rows).axes[0])
    assert set(mine) == {"static"}
    np.testing.assert_allclose(
        mine["static"].get_ydata(), [loss for _, loss in sparse.runs[0].losses]
    )


def test_seeds_are_averaged_where_all_have_validated() -> None:
    row = a_row("rigl", 0.9)
    short = replace(row.runs[1], losses=row.runs[1].losses[:-5], flops=row.runs[1].flops[:-5])
    figure = validation_loss([replace(row, runs=[row.runs[0], short, row.runs[2]])])
    assert lines(figure.axes[0])["rigl"].get_xdata()[-1] == 2250


def test_without_operations_their_panel_is_empty() -> None:
    figure = validation_loss(
        made_up_rows(methods=("dense", "rigl"), sparsities=(0.9,), flops=False)
    )
    assert len(figure.axes[0].lines) == 2
    assert len(figure.axes[1].lines) == 0


def test_files_are_written_the_same_again(tmp_path) -> None:
    rows = made_up_rows(methods=("dense", "rigl"), sparsities=(0.9,))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_figures(tmp_path / name, rows, SETS)
    written = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert written == [
        "bleu_by_sparsity.png", "bleu_by_sparsity.svg", "quality_by_weights.png",
        "quality_by_weights.svg", "validation_loss.png", "validation_loss.svg",
    ]  # fmt: skip
    for name in written:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("methods", [("dense",), ("rigl",)])
def test_one_method_alone(methods) -> None:
    rows = made_up_rows(methods=methods)
    for figure in (
        bleu_by_sparsity(rows, SETS), quality_by_weights(rows, SETS), validation_loss(rows)
    ):  # fmt: skip
        figure.canvas.draw()
        assert legend(figure) == list(methods)


def test_nothing_is_drawn_of_nothing(tmp_path) -> None:
    row = a_row("rigl", 0.9)
    begun = [replace(run, state="unfinished") for run in row.runs]
    write_figures(tmp_path, [replace(row, runs=begun, values={})], SETS)
    assert not list(tmp_path.iterdir())


def test_a_run_without_losses_leaves_the_figure_whole() -> None:
    row = a_row("rigl", 0.9)
    none = [replace(run, losses=[], flops=[]) for run in row.runs]
    for rows in ([a_row("dense", 0.0)], []):
        figure = validation_loss([*rows, replace(row, runs=none)])
        figure.canvas.draw()
        assert set(lines(figure.axes[0])) == {"rigl", *(row.method for row in rows)}
