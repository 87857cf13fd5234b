import doctest

import pytest
import torch

from hf_chts.rules import scores as scores_module
from hf_chts.rules import select as select_module
from hf_chts.rules.scores import initial_mask, link_scores

# Past the shape check of tests, where it is on: users have the function's own errors alone.
plain_link_scores = getattr(link_scores, "__wrapped__", link_scores)
MASK = torch.tensor([[1, 0, 0], [1, 1, 1]]).bool()


def test_link_scores_are_nan_at_active_links_only():
    before = MASK.clone()
    scores = link_scores(MASK, rule="ch2_l3n")
    assert scores.dtype == torch.float32
    assert torch.equal(scores.isnan(), MASK)
    assert scores[0, 1:].tolist() == [3.0, 3.0]
    assert torch.equal(link_scores(MASK).nan_to_num(), scores.nan_to_num())
    assert torch.equal(MASK, before)


@pytest.mark.parametrize("mask", [MASK.float(), MASK.long(), MASK.tolist()])
def test_masks_that_are_not_bool_are_refused(mask):
    with pytest.raises(TypeError, match="must be a tensor of bool"):
        plain_link_scores(mask)


@pytest.mark.parametrize("mask", [MASK[0], MASK[None]])
def test_masks_that_are_not_flat_are_refused(mask):
    with pytest.raises(ValueError, match=r"must have shape \(out, in\)"):
        plain_link_scores(mask)


def test_unknown_rule_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"did you mean 'ch2_l3p'.*known: .*ch3_l3p"):
        link_scores(MASK, rule="ch2_l3")


def test_rules_that_read_gradients_are_refused():
    with pytest.raises(ValueError, match=r"'gradient' reads dense_grad.*take one of: ch2_l3n"):
        link_scores(MASK, rule="gradient")


@pytest.mark.parametrize("rule", ["er", "brf", "bsw", "bsf"])
def test_initial_mask(rule):
    mask = initial_mask(rule, 12, 20, 0.1, seed=3)
    assert int(mask.sum()) == 24
    assert torch.equal(mask, initial_mask(rule, 12, 20, density=0.1, seed=3))
    assert not torch.equal(mask, initial_mask(rule, 12, 20, density=0.1, seed=4))
    assert initial_mask(rule, 3, 4, 1.0).all()


def test_initial_mask_passes_parameters_on():
    near = initial_mask("brf", 4, 8, 1 / 8, r=0.0)
    assert near.nonzero()[:, 1].tolist() == [0, 2, 4, 6]
    with pytest.raises(ValueError, match="takes r, degrees; got q"):
        initial_mask("brf", 4, 8, 0.5, q=1)


@pytest.mark.parametrize("rule", ["er", "brf", "bsw", "bsf"])
def test_initial_masks_do_not_follow_the_default_device(rule):
    wanted = initial_mask(rule, 12, 20, 0.1, seed=3)
    with torch.device("meta"):
        assert torch.equal(initial_mask(rule, 12, 20, 0.1, seed=3), wanted)


@pytest.mark.parametrize("density", [0.0, -0.5, 1.01])
def test_initial_mask_refuses_densities_out_of_range(density):
    with pytest.raises(ValueError, match=r"density must be in \(0, 1\]"):
        initial_mask("er", 4, 4, density)


def test_initial_mask_refuses_to_leave_no_link():
    with pytest.raises(ValueError, match=r"leaves no link in 4 x 4; take at least 0\.0625"):
        initial_mask("er", 4, 4, 0.01)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (-1, 4)])
def test_initial_mask_refuses_layers_without_neurons(shape):
    with pytest.raises(ValueError, match="at least one neuron a side"):
        initial_mask("er", *shape, 0.5)


@pytest.mark.parametrize("rule", ["csti", "magnitude"])
def test_initial_mask_refuses_rules_that_need_data(rule):
    with pytest.raises(ValueError, match=f"{rule} needs"):
        initial_mask(rule, 4, 4, 0.5)


@pytest.mark.parametrize("module", [scores_module, select_module])
def test_examples_in_docstrings(module):
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0
