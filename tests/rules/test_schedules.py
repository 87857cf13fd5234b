import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_chts.rules.schedules import (
    DENSITY,
    EXPONENT,
    ZETA,
    exponent_of,
    inoam,
    iterative_warmup,
    noam,
)

TINY = 1e-12


def settings_of(title):
    return {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", title)}


def test_reference_sparsities_and_drop_fractions(schedule_vectors):
    checked = 0
    for title, rows in schedule_vectors.items():
        if not title.startswith("initial"):
            continue
        given_ = settings_of(title)
        assert given_["k"] == 6
        start, end = given_["initial"], given_["final"]
        for row in rows:
            x = min(row["step"] / int(given_["end_step"]), 1.0)
            for name in ("cubic", "sigmoid", "linear"):
                want = row[f"{name}_sparsity"]
                assert DENSITY[name](x, start, end) == pytest.approx(want, abs=TINY)
                assert DENSITY[name](x, 1 - start, 1 - end) == pytest.approx(1 - want, abs=TINY)
            want = row["cosine_drop_fraction"]
            assert ZETA["cosine"](x, given_["zeta"]) == pytest.approx(want, abs=TINY)
            checked += 1
    assert checked == 140


def test_reference_inoam(schedule_vectors):
    (title,) = [title for title in schedule_vectors if title.startswith("inoam")]
    given_ = {key: int(value) for key, value in settings_of(title).items()}
    for row in schedule_vectors[title]:
        factor = inoam(
            row["step"],
            given_["warmup"],
            given_["d_model"],
            given_["update_interval"],
            given_["iterative_warmup"],
        )
        assert factor == pytest.approx(row["factor"], rel=TINY)


def test_exponents_by_hand():
    paper, code = EXPONENT["delta_linear"], EXPONENT["exponent_linear"]
    for schedule in (paper, code):
        assert schedule(0.0, 1.0, 9.0) == pytest.approx(1.0)
        assert schedule(1.0, 1.0, 9.0) == pytest.approx(9.0)
    assert paper(0.5, 1.0, 9.0) == pytest.approx(0.7 / 0.3)
    assert code(0.5, 1.0, 9.0) == pytest.approx(5.0)


def test_soft_choice_by_name_runs_from_1_to_9():
    for softness in ("delta_linear", "exponent_linear"):
        ends = [exponent_of(softness, progress) for progress in (0.0, 1.0)]
        assert ends == pytest.approx([1.0, 9.0])
    assert exponent_of(2.5, 0.7) == 2.5
    assert exponent_of("ranked", 0.7) is exponent_of(None, 0.7) is None


def test_mest_stages_by_hand():
    mest = DENSITY["mest"]
    values = [mest(x, 0.85, 0.9) for x in (0.0, 0.59, 0.6, 0.99, 1.0)]
    assert values == pytest.approx([0.85, 0.85, 0.875, 0.875, 0.9])


@pytest.mark.parametrize("name", sorted(set(DENSITY) - {"constant"}))
@given(st.floats(0, 1), st.floats(0, 1))
def test_densities_fall_from_start_to_end(name, x, y):
    schedule = DENSITY[name]
    assert schedule(0.0, 0.5, 0.1) == pytest.approx(0.5)
    assert schedule(1.0, 0.5, 0.1) == pytest.approx(0.1)
    assert schedule(min(x, y), 0.5, 0.1) >= schedule(max(x, y), 0.5, 0.1) - TINY


def test_constants():
    assert DENSITY["constant"](0.3, 0.5, 0.1) == 0.1
    assert ZETA["constant"](0.3, 0.2) == 0.2


def test_sigmoid_is_symmetric_about_the_middle():
    sigmoid = DENSITY["sigmoid"]
    assert sigmoid(0.5, 0.5, 0.1) == pytest.approx(0.3)
    assert sigmoid(0.2, 0.5, 0.1) + sigmoid(0.8, 0.5, 0.1) == pytest.approx(0.6)


def test_noam_peaks_at_the_end_of_warmup():
    factors = [noam(step, 100, 64) for step in (1, 50, 100, 101, 400)]
    assert max(factors) == factors[2] == pytest.approx(0.125 * 0.1)
    assert factors[4] == pytest.approx(factors[2] / 2)
    assert factors[1] == pytest.approx(factors[2] / 2)


def test_warmup_does_not_come_back_after_the_last_update():
    at = {s: iterative_warmup(s, 100, 20, last_update=300) for s in (200, 300, 310, 320, 400, 510)}
    assert at == {200: 0.0, 300: 0.0, 310: 0.5, 320: 1.0, 400: 1.0, 510: 1.0}
    assert iterative_warmup(400, 100, 20) == 0.0
