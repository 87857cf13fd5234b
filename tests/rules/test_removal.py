import pytest
import torch

from hf_chts.rules.links import Links
from hf_chts.rules.removal import removal
from hf_chts.rules.select import choose


def links_of(weight, grad=None):
    return Links(weight, weight != 0, torch.Generator().manual_seed(0), grad)


def test_relative_importance_by_hand():
    links = links_of(torch.tensor([[1.0, -3.0], [1.0, 0.0]]))
    scores = removal["relative_importance"].function(links)
    # Rows sum to 4 and 1, columns to 2 and 3.
    assert torch.allclose(scores, torch.tensor([[1 / 4 + 1 / 2, 3 / 4 + 1], [1 + 1 / 2, 0]]))


def test_relative_importance_mixes_with_magnitude():
    links = links_of(torch.tensor([[1.0, -3.0], [1.0, 0.0]]))
    mixed = removal.make({"rule": "relative_importance", "alpha": 0.25}).function(links)
    plain = removal["relative_importance"].function(links)
    assert torch.allclose(mixed, 0.25 * links.weight.abs() + 0.75 * plain)


def test_mest_by_hand():
    links = links_of(torch.tensor([[1.0, -3.0]]), torch.tensor([[-4.0, 1.0]]))
    assert torch.allclose(removal["mest"].function(links), torch.tensor([[1.04, 3.01]]))


@pytest.mark.parametrize("case", [f"case{i}" for i in range(5)])
def test_reference_vectors(link_vectors, case):
    vectors = link_vectors[case]
    mask = vectors["mask"]
    generator = torch.Generator().manual_seed(0)
    links = Links(vectors["weight"] * mask, mask, generator, vectors["dense_grad"] * mask)
    importance = removal["relative_importance"].function(links)
    # The authors add 1e-5 to the sums.
    assert torch.allclose(importance[mask], vectors["relative_importance"][mask], rtol=2e-4)
    for name in ("magnitude", "mest"):
        kept = vectors[f"keep_{name}_zeta0.3"]
        scores = removal[name].function(links)
        assert torch.equal(choose(scores, mask, int(kept.sum()), generator), kept)


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_alpha_out_of_range_is_refused(alpha):
    rule = removal.make({"rule": "relative_importance", "alpha": alpha})
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
        rule.function(links_of(torch.ones(2, 2)))


def test_mest_needs_its_gradient_and_a_sensible_weight():
    with pytest.raises(ValueError, match="needs the gradient at active links"):
        removal["mest"].function(links_of(torch.ones(2, 2)))
    rule = removal.make({"rule": "mest", "gradient_weight": -1.0})
    with pytest.raises(ValueError, match=r"gradient_weight must be in \[0, inf\)"):
        rule.function(links_of(torch.ones(2, 2), torch.ones(2, 2)))
