import numpy as np
import pytest
from made_up_runs import OpenStore, made_up_run, quiet
from run_files import a_mask

from hf_chts.report.layer_panels import layer_panels


@pytest.mark.parametrize("asked", [True, False])
def test_a_file_of_the_matrix_only_where_files_are_asked_for(asked, tmp_path):
    store = OpenStore(tmp_path / "figures" if asked else None)
    layer_panels(made_up_run(final={"fc": a_mask()}), ["fc"], store, quiet)
    assert ("adjacency-fc" in store.figures) == asked
    assert (tmp_path / "figures" / "adjacency-fc.png").exists() == asked
    assert "degrees-fc" in store.figures


def fits(mask):
    (panel,) = layer_panels(made_up_run(final={"fc": mask}), ["fc"], OpenStore(), quiet)
    return panel.fits


def test_tails_of_random_layers_do_not_pass_for_power_laws():
    inputs, outputs = fits(np.random.default_rng(0).random((512, 512)) < 0.1)
    assert inputs == (
        "inputs: gamma = 16.36 from degree 60 on (67 neurons), p = 0.73: a power law is not ruled "
        "out; an exponential law fits as well (p = 0.48); so steep a tail is one of random layers "
        "too"
    )
    assert outputs == (
        "outputs: gamma = 16.74 from degree 57 on (130 neurons), p = 0.02: a power law is ruled "
        "out; an exponential law fits better (p = 0.00); so steep a tail is one of random layers "
        "too"
    )


def test_a_power_law_that_fits_best_stands_alone():
    links = np.minimum(np.random.default_rng(2).zipf(2.2, 300), 400)
    outputs = fits(np.arange(400) < links[:, None])[1]
    assert outputs.startswith("outputs: gamma = 2.10")
    assert outputs.endswith("p = 0.96: a power law is not ruled out")


def test_no_fit_says_why():
    assert fits(np.eye(12, dtype=bool))[0] == (
        "inputs: power law not defined: no ten linked neurons have degrees that a power law could "
        "follow"
    )
