import base64
import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image
from run_files import a_mask
from scipy.ndimage import label

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
    yield plots.adjacency(mask, title="Links")
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


def test_many_series_differ_in_colour_or_dashes():
    axes = loss_curves(**{f"run {i}": ([1], [2.0]) for i in range(32)}).axes[0]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 32


def test_equal_degrees_are_a_dot_of_their_step():
    """A line of one point shows nothing: where all outputs start with as many links, step 0."""
    figure = plots.degree_evolution({0: np.array([6, 6]), 10: np.array([5, 7])}, title="")
    assert [line.get_marker() for line in figure.axes[0].lines] == ["o", ""]


def test_single_neurons_and_steps_have_whole_numbers():
    one = plots.adjacency(np.ones((1, 1), dtype=bool), title="").axes[0]
    ticks = [
        *one.get_xticks(),
        *one.get_yticks(),
        *loss_curves(a=([5], [2.0])).axes[0].get_xticks(),
    ]
    assert all(tick == round(tick) for tick in ticks)


def test_long_names_stay_within_the_figure():
    name = "model.language_model.decoder.layers.11.encoder_attn.output_projection"
    dots = {"a": [1.0], "b": [2.0]}
    title = "Links of an earlier run shared with the last one"
    label = "shared links / links expected by chance"
    for figure in (
        plots.adjacency(np.ones((9, 9), dtype=bool), title=f"Active links of {name}"),
        plots.layer_dots(dots, [name], title=title, x_label=label, reference=1),
    ):
        figure.draw_without_rendering()
        axes = figure.axes[0]
        for text in (axes.xaxis.label, *axes.get_children()):
            if isinstance(text, Text) and text.get_text():
                box = text.get_window_extent()
                assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, text.get_text()


def test_no_curve_is_refused():
    with pytest.raises(ValueError, match="at least one series"):
        loss_curves()


def test_a_distribution_falls_from_one_to_the_share_of_the_largest():
    degrees = {"inputs": np.array([0, 1, 1, 2, 4])}  # the isolated neuron is left out
    line = plots.degree_distribution(degrees, {}, title="").axes[0].lines[0]
    assert line.get_xdata().tolist() == [1, 2, 4]
    assert line.get_ydata().tolist() == [1.0, 0.5, 0.25]


def test_the_first_and_the_last_step_are_named():
    one, none = np.array([1, 2]), np.array([0, 0])
    history = {30: one, 0: none, 10: one, 20: one, 4000: none}
    figure = plots.degree_evolution(history, title="")
    assert words_of(figure).endswith("step 10 step 30")
    lines = figure.axes[0].lines
    assert [line.get_gid() for line in lines] == ["step-10", "step-20", "step-30"]
    keys = figure.legends[0].get_lines()
    assert [key.get_color() for key in keys] == [lines[0].get_color(), lines[-1].get_color()]
    light, dark = (np.mean(to_rgb(key.get_color())) for key in keys)
    assert light > dark


def test_the_fitted_law_starts_at_its_tail_and_falls_by_its_exponent():
    degrees = {"inputs": np.array([1, 1, 2, 8])}
    fit = plots.degree_distribution(degrees, {"inputs": (3.0, 2.0)}, title="").axes[0].lines[1]
    assert fit.get_xdata().tolist() == [2, 8]
    assert np.allclose(fit.get_ydata(), [0.5, 0.5 * 4.0**-2])


def raster(svg):
    """The picture inside an SVG, RGBA."""
    (data,) = re.findall(r"base64,([A-Za-z0-9+/=\s]+)", svg)
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def as_png(figure):
    """What lies within the axes of a figure in a file of its own, RGBA."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=200, transparent=True)
    whole = np.array(Image.open(file))
    height, width = whole.shape[:2]
    box = figure.axes[0].get_position()
    top, bottom = round((1 - box.y1) * height) + 3, round((1 - box.y0) * height) - 3
    return whole[top:bottom, round(box.x0 * width) + 3 : round(box.x1 * width) - 3]


def as_svg(figure):
    file = io.StringIO()
    figure.savefig(file, format="svg")
    return file.getvalue()


def words_of(figure):
    axes, keys = figure.axes[0], [text for legend in figure.legends for text in legend.get_texts()]
    return " ".join([axes.get_xlabel(), axes.get_ylabel(), *(text.get_text() for text in keys)])


def test_inactive_neurons_can_be_told_from_active_ones():
    states = {10: np.array([True, False]), 0: np.array([True, True])}
    figure = plots.neuron_activity(states, title="")
    assert raster(inline_svg(figure, key="k", label=""))[..., 3].tolist() == [[0, 0], [0, 255]]
    assert words_of(figure) == "hidden neuron step active inactive"


@pytest.mark.parametrize(("n", "dropped"), [(300, 3), (1024, 10), (4096, 20)])
def test_every_inactive_neuron_is_seen(n, dropped):
    places = np.linspace(100, n - 100, dropped).astype(int)  # no two in one cell
    active = ~np.isin(np.arange(n), places)
    figure = plots.neuron_activity({0: np.ones(n, dtype=bool), 10: active}, title="")
    first, last = raster(inline_svg(figure, key="k", label=""))
    cell = -(-n // 256)
    assert not first[:, 3].any()
    assert np.flatnonzero(last[:, 3]).tolist() == (places // cell).tolist()
    assert f"inactive (any of {cell} neurons)" in words_of(figure)
    orange = as_png(figure)[-10, :, 2] < 100  # active ones are grey
    assert np.count_nonzero(np.diff(orange.astype(int)) == 1) == dropped


def test_a_neuron_that_was_inactive_once_is_seen_among_many_steps():
    states = {step: np.array([True, step != 77]) for step in range(200)}
    figure = plots.neuron_activity(states, title="")
    shown = raster(inline_svg(figure, key="k", label=""))[..., 3]
    assert np.argwhere(shown).tolist() == [[77 // 4, 1]]
    assert "inactive (any of 4 steps)" in words_of(figure)


def test_a_picture_on_the_page_reaches_from_end_to_end():
    figure = plots.neuron_activity({0: np.arange(1024) > 3}, title="")
    svg = inline_svg(figure, key="k", label="")
    (scale,) = re.findall(r'<image[^>]*transform="matrix\(([\d.]+)', svg)
    width = figure.axes[0].get_position().width * figure.get_size_inches()[0] * 72
    assert float(scale) * 256 == pytest.approx(width, abs=0.05)


def test_a_dot_for_each_link():
    mask = a_mask(512, 500, density=0.02)
    shown = raster(as_svg(plots.adjacency(mask, title="")))[..., 3]
    assert np.array_equal(shown == 255, mask)
    assert not shown[~mask].any()
    assert words_of(plots.adjacency(mask, title="")) == "input neuron output neuron"
    none = plots.adjacency(np.zeros((2, 2), dtype=bool), title="")
    assert not raster(as_svg(none))[..., 3].any()


def test_no_link_of_a_large_layer_is_lost():
    mask = np.zeros((4096, 1024), dtype=bool)
    rows, columns = np.meshgrid(np.arange(200, 4096, 500), np.arange(100, 1024, 200))
    mask[rows, columns] = True
    mask[200:208, 96:104] = True  # a block of links
    figure = plots.adjacency(mask, title="")
    assert "input neuron, blocks of 8 x 8: darker with more links" in words_of(figure)
    shown = raster(as_svg(figure))[..., 3]
    assert shown.shape == (512, 128)
    assert np.count_nonzero(shown) == rows.size == 40
    assert shown[25, 12] == 255
    assert 50 < shown[25, 37] < 100  # a single link is still seen
    assert label(as_png(figure)[..., 3] > 0)[1] == 40


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
