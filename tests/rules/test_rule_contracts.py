"""What every removal and regrowth rule must hold, those added later included."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_chts.rules.links import Links
from hf_chts.rules.registry import Registry
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal
from hf_chts.rules.scores import link_scores
from hf_chts.rules.select import choose

RULES = [(registry, name) for registry in (removal, regrowth) for name in sorted(registry)]
each_rule = pytest.mark.parametrize(
    ("registry", "name"), RULES, ids=[f"{r.kind}-{name}" for r, name in RULES]
)


def links_of(mask, seed=0, dtype=torch.float32, reads="weight"):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(mask.shape, generator=generator, dtype=dtype) * mask
    grad = correlation = None
    if reads in ("grad", "dense_grad"):
        grad = torch.randn(mask.shape, generator=generator, dtype=dtype)
        grad = grad * mask if reads == "grad" else grad
    elif reads == "correlation":
        correlation = torch.rand(mask.shape, generator=generator).to(dtype) * 2 - 1
    return Links(weight, mask, generator, grad, correlation)


def random_mask(out, inp, density, seed=0):
    return torch.rand(out, inp, generator=torch.Generator().manual_seed(seed)) < density


MASKS = {
    "one output": random_mask(1, 7, 0.5),
    "one input": random_mask(7, 1, 0.5),
    "one link": torch.ones(1, 1, dtype=torch.bool),
    "empty": torch.zeros(3, 4, dtype=torch.bool),
    "dense": torch.ones(4, 3, dtype=torch.bool),
    "wide": random_mask(5, 11, 0.4),
    "tall": random_mask(12, 4, 0.3),
    "ultra-sparse": random_mask(20, 30, 0.02),
    "empty rows and columns": random_mask(6, 6, 0.6)
    & (torch.arange(6) != 2)
    & (torch.arange(6) != 4)[:, None],
}
each_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])


@each_rule
def test_cites_its_paper(registry, name):
    assert len(registry[name].source) > 10
    assert registry[name].reads in ("weight", "grad", "dense_grad", "correlation")
    assert "Source:" in registry[name].function.__doc__


@each_rule
@each_mask
@each_dtype
def test_scores_are_fit_for_soft_and_ranked_choice(registry, name, mask, dtype):
    rule = registry[name]
    links = links_of(mask, 1, dtype, rule.reads)
    eligible = mask if registry is removal else ~mask
    scores = rule.function(links)
    assert scores.shape == mask.shape
    assert scores.is_floating_point()
    assert scores[eligible].isfinite().all()
    assert (scores[eligible] >= 0).all()
    k = int(eligible.sum()) // 2
    for exponent in (None, 1.0):
        chosen = choose(scores, eligible, k, links.generator, exponent)
        assert int(chosen.sum()) == k
        assert not (chosen & ~eligible).any()


@each_rule
@each_mask
def test_never_writes_to_its_input_and_repeats(registry, name, mask):
    rule = registry[name]
    links, again = links_of(mask, 2, reads=rule.reads), links_of(mask, 2, reads=rule.reads)
    first, second = rule.function(links), rule.function(again)
    assert torch.equal(first.nan_to_num(), second.nan_to_num())
    first.fill_(-1)  # a rule may hand out nothing of its input either
    for field in ("weight", "mask", "grad", "correlation"):
        one, other = getattr(links, field), getattr(again, field)
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


@each_rule
@settings(max_examples=15)
@given(st.integers(2, 9), st.integers(2, 9), st.floats(0.1, 0.9), st.integers(0, 99))
def test_renaming_neurons_renames_scores(registry, name, out, inp, density, seed):
    rule = registry[name]
    links = links_of(random_mask(out, inp, density, seed), seed, torch.float64, rule.reads)
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(n, generator=generator) for n in (out, inp))

    def renamed(tensor):
        return None if tensor is None else tensor[rows][:, columns]

    other = dataclasses.replace(
        links,
        weight=renamed(links.weight),
        mask=renamed(links.mask),
        grad=renamed(links.grad),
        correlation=renamed(links.correlation),
    )
    eligible = renamed(links.mask if registry is removal else ~links.mask)
    want, got = renamed(rule.function(links)), rule.function(other)
    assert torch.allclose(want[eligible], got[eligible], rtol=1e-12, atol=1e-12)


def test_rules_are_there():
    assert {"magnitude", "relative_importance", "mest"} <= set(removal)
    published = {"random", "gradient", "ch2_l3n", "ch3_l3n", "ch3_1_l3n", "ch2_l3p", "ch3_l3p"}
    assert published <= set(regrowth)
    assert {"hebbian", "ch2_l3n_hebbian", "ch2_l3n_normalised", "weighted_paths"} <= set(regrowth)


# Adding a rule from outside the package


def test_a_new_rule_works_everywhere_at_once():
    @regrowth.register("test_preferential", source="Barabási and Albert, Science 1999")
    def preferential(links, power=1.0):
        """Score a link by the product of its degrees."""
        a = links.mask.to(links.weight.dtype)
        return (a.sum(1, keepdim=True) * a.sum(0)) ** power

    try:
        mask = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
        scores = link_scores(mask, "test_preferential")
        assert scores.nan_to_num(-1).tolist() == [[-1, -1, 0], [-1, 1, 0]]
        rule = regrowth.make({"rule": "test_preferential", "power": 0.0})
        assert rule.function(links_of(mask)).tolist() == [[1.0] * 3] * 2
    finally:
        del regrowth["test_preferential"]


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="removal rule 'magnitude' is registered already"):
        removal.register("magnitude", source="nobody, nowhere, never")(lambda links: links.weight)


def test_unknown_rules_and_parameters_are_refused_with_help():
    registry = Registry("test")
    registry.register("alpha_rule", source="x")(lambda links, alpha=1: links.weight)
    registry.register("bare", source="x")(lambda links: links.weight)
    with pytest.raises(ValueError, match=r"did you mean 'alpha_rule'.* known: alpha_rule, bare"):
        registry.make("alpharule")
    with pytest.raises(ValueError, match="no test rule 'zzz': known: alpha_rule, bare"):
        registry.make("zzz")
    with pytest.raises(ValueError, match="takes alpha; got beta"):
        registry.make({"rule": "alpha_rule", "beta": 1})
    with pytest.raises(ValueError, match="takes no parameter; got beta"):
        registry.make({"rule": "bare", "beta": 1})
    with pytest.raises(ValueError, match="no test rule ''"):
        registry.make({"beta": 1})
