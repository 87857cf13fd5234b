"""Rules from outside the package: the README's works, and wrong ones are named at once."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from hf_chts import SparsityConfig, Topology, link_scores, sparse_layers, sparsify
from hf_chts.rules.initial import initial
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_readme_rule_regrows_between_neurons_of_low_degree() -> None:
    block = next(
        code
        for code in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
        if "low_degree" in code
    )
    exec(compile(block, "README.md", "exec"), {})
    try:
        model = nn.Sequential(nn.Linear(20, 20))
        sparsify(
            model, SparsityConfig(method="set", regrowth="low_degree", sparsity=0.8, zeta=0.5,
                                  update_interval=1, stop_fraction=1.0)
        )  # fmt: skip
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        topology = Topology(model, optimizer, total_steps=3)
        layer = sparse_layers(model)["0"]
        topology.before_backward(1)
        model(torch.randn(8, 20)).square().sum().backward()
        optimizer.step()
        before = layer.mask
        (update,) = topology.after_step(1)
        kept = before & layer.mask
        grown = layer.mask & ~before
        assert int(grown.sum()) == update.regrown > 0
        degrees = kept.sum(1, keepdim=True) * kept.sum(0, keepdim=True)
        assert degrees[grown].float().mean() < degrees[~layer.mask].float().mean()
    finally:
        del regrowth["low_degree"]


KINDS = {"initial": initial, "removal": removal, "regrowth": regrowth}


@pytest.fixture
def rule(request):
    """A rule "outside" of one kind, for the time of a test."""
    kind, function = request.param
    KINDS[kind].register("outside", source="this test")(function)
    yield kind
    del KINDS[kind]["outside"]


def model_by(kind):
    model = nn.Sequential(nn.Linear(20, 20))
    sparsify(
        model,
        SparsityConfig(
            method="set", sparsity=0.8, zeta=0.5, update_interval=1, **{kind: "outside"}
        ),
    )
    return model


def refused(kind, function, wanted, got):
    what = f"{kind} rule 'outside' must return {wanted}; got {got}"
    return pytest.param((kind, function), what, id=f"{kind}-{got}")


SCORES, MASK = "real numbers of shape (1, 1), a score for every link", "torch.bool of shape "


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        refused("regrowth", lambda _: None, SCORES, "NoneType"),
        refused("regrowth", lambda x: x.weight.sum(1), SCORES, "torch.float32 of shape (1,)"),
        refused("regrowth", lambda x: x.mask, SCORES, "torch.bool of shape (1, 1) with 1 links"),
        refused("removal", lambda x: x.weight + 0j, SCORES, "torch.complex64 of shape (1, 1)"),
        refused(
            "initial",
            lambda s: torch.ones(s.n_links).bool(),
            MASK + "(1, 1) with 1 links",
            "torch.bool of shape (1,) with 1 links",
        ),
        refused(
            "initial",
            lambda s: torch.eye(s.out_features, s.in_features),
            MASK + "(1, 1) with 1 links",
            "torch.float32 of shape (1, 1)",
        ),
        refused(
            "initial",
            lambda s: torch.eye(s.out_features, s.in_features).bool(),
            MASK + "(20, 20) with 80 links",
            "torch.bool of shape (20, 20) with 20 links",
        ),
    ],
    indirect=["rule"],
)
def test_what_is_no_score_or_no_start_is_refused_before_a_layer_is_replaced(rule, message):
    model = nn.Sequential(nn.Linear(20, 20))
    config = SparsityConfig(method="set", sparsity=0.8, **{rule: "outside"})
    with pytest.raises(ValueError, match=re.escape(message)):
        sparsify(model, config)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("regrowth", lambda x: x.weight * torch.nan), "must be finite; got NaN"),
        (("removal", lambda x: x.weight * torch.inf), "must be finite; got NaN or infinity"),
        (("regrowth", lambda x: x.weight - 1), "needs scores >= 0; got a negative one"),
    ],
    indirect=["rule"],
)
def test_scores_that_cannot_be_chosen_by_name_their_rule_and_change_no_link(rule, message):
    model = model_by(rule)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = Topology(model, optimizer, total_steps=3)
    before = sparse_layers(model)["0"].mask
    topology.before_backward(1)
    model(torch.randn(8, 20)).square().sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match=f"rule 'outside': .*{message}"):
        topology.after_step(1)
    assert torch.equal(sparse_layers(model)["0"].mask, before)


@pytest.mark.parametrize(
    "rule", [("regrowth", lambda x: x.mask.sum(1, keepdim=True) * x.mask.sum(0))], indirect=True
)
def test_whole_numbers_are_scores(rule):
    scores = link_scores(torch.tensor([[True, False], [True, True]]), "outside")
    assert scores[0, 1] == 1.0
    assert scores[scores.isfinite()].numel() == 1
