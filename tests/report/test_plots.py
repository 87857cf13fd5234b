import numpy as np
import pytest
from run_files import a_mask

from hf_chts.analysis import plots
from hf_chts.analysis.plot_style import GREY, SERIES
from hf_chts.report.svg import inline_svg


def loss_curves(**series):
    return plots.curves(series, title="Loss", x_label="step", y_label="nats per token")


def figures():
    mask, rng = a_mask(30, 20), np.random.default_rng(0)
    degrees = {"inputs": mask.sum(0), "outputs": mask.sum(1)}
    community = rng.integers(0, 9, 50)
    yield loss_curves(a=([1, 2], [3.0, np.nan]), b=([1], [2.0]))
    yield plots.adjacency(mask, title="Links", output_order=np.argsort(mask.sum(1)))
    yield plots.degree_distribution(degrees, {"inputs": (2.5, 4.0)}, title="Degrees")
    yield plots.degree_evolution({0: mask.sum(0), 10: 0 * mask.sum(0)}, title="Evolution")
    yield plots.disc(
        rng.random(50) * 6.28, rng.random(50), community, rng.integers(0, 50, (80, 2)), title="Disc"
    )
    yield plots.neuron_activity({0: mask[0], 10: mask[1]}, title="Neurons")
    yield plots.layer_dots({"a": [1.0, 2.0]}, ["x", "y"], title="D", x_label="r", reference=1)


@pytest.mark.parametrize("figure", list(figures()), ids=lambda f: f.axes[0].get_title(loc="left"))
def test_every_figure_has_a_title_and_goes_on_a_page(figure):
    assert figure.axes[0].get_title(loc="left")
    svg = inline_svg(figure, key="k", label="A & B")
    assert svg.startswith('<svg class="chart" role="img" aria-label="A &amp; B" viewBox')
    assert "<style" not in svg
    assert "font-family" not in svg


def test_axes_say_what_and_in_which_unit():
    axes = loss_curves(a=([1], [2.0])).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "nats per token")


def test_series_without_values_keep_their_colour():
    axes = loss_curves(a=([], []), b=([1], [2.0])).axes[0]
    assert [line.get_color() for line in axes.lines] == [SERIES[1]]
    dots = {"a": [], "b": [1.0]}
    axes = plots.layer_dots(dots, ["x"], title="", x_label="", reference=1).axes[0]
    assert [line.get_color() for line in axes.lines] == [SERIES[1], GREY]


def test_no_curve_is_refused():
    with pytest.raises(ValueError, match="at least one series"):
        loss_curves()


def test_a_distribution_falls_from_one_to_the_share_of_the_largest():
    degrees = {"inputs": np.array([0, 1, 1, 2, 4])}  # the isolated neuron is left out
    line = plots.degree_distribution(degrees, {}, title="").axes[0].lines[0]
    assert line.get_xdata().tolist() == [1, 2, 4]
    assert line.get_ydata().tolist() == [1.0, 0.5, 0.25]


def test_the_fitted_law_starts_at_its_tail_and_falls_by_its_exponent():
    degrees = {"inputs": np.array([1, 1, 2, 8])}
    fit = plots.degree_distribution(degrees, {"inputs": (3.0, 2.0)}, title="").axes[0].lines[1]
    assert fit.get_xdata().tolist() == [2, 8]
    assert np.allclose(fit.get_ydata(), [0.5, 0.5 * 4.0**-2])


def test_inactive_neurons_can_be_told_from_active_ones():
    states = {10: np.array([True, False]), 0: np.array([True, True])}
    figure = plots.neuron_activity(states, title="")
    assert figure.axes[0].images[0].get_array().tolist() == [[True, True], [True, False]]


def test_ids_of_two_figures_never_meet():
    one, two = (inline_svg(loss_curves(a=([1], [2.0])), key=key, label="") for key in "ab")
    ids = [part.split('"')[0] for svg in (one, two) for part in svg.split(' id="')[1:]]
    assert len(ids) == len(set(ids)) > 10
    assert all(part.startswith("a-") for part in one.split("url(#")[1:])


def test_colours_follow_the_page_and_text_stays_whole():
    svg = inline_svg(loss_curves(a=([1, 2], [0.00125, 0.0025])), key="k", label="")
    assert "currentColor" in svg
    assert "var(--blue)" in svg
    assert not any(colour in svg for colour in SERIES)
    assert ">0.00125<" in svg.replace(" ", "") or ">0.0012" in svg.replace(" ", "")
