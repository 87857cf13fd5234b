from __future__ import annotations

import contextlib
from copy import deepcopy

import pytest
import torch
from families import FAMILIES, make
from head_loss_steps import inputs_of, plain, returns_logits, step
from torch import nn

import hf_chts.training.head_loss as head_loss_module
import hf_chts.training.loss as loss_module
from hf_chts.training.head_loss import DeferredLogits, deferred_head
from hf_chts.training.loss import LabelSmoothedLoss

SEQ2SEQ_FAMILIES = [name for name, family in FAMILIES.items() if not family.causal]
ASK_FOR_LOGITS = {"prophetnet", "fsmt", "t5gemma"}  # cut them up, have another head, bend them


def example(dtype=torch.float64, bias=True, added=True, tokens=(3, 4), vocab=11):
    """Deferred logits whose tensors are leaves, and labels."""
    draw = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)  # noqa: E731
    hidden, weight = make(*tokens, 5).to(dtype), make(vocab, 5).to(dtype)
    deferred = DeferredLogits(
        hidden.requires_grad_(),
        weight.requires_grad_(),
        make(vocab).to(dtype).requires_grad_() if bias else None,
        make(vocab).to(dtype) if added else None,
        dtype,
        dtype,
    )
    labels = torch.randint(vocab, tokens, generator=draw)
    labels[0, 2:] = labels[2, 1] = -100
    return deferred, labels


def gradients(deferred, loss):
    leaves = [x for x in (deferred.hidden, deferred.weight, deferred.bias) if x is not None]
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("rows", [1, 4, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("bias", "added"), [(True, True), (False, True), (False, False)])
def test_equals_the_loss_of_logits(monkeypatch, bias, added, smoothing, rows) -> None:
    monkeypatch.setattr(loss_module, "_ROWS", rows)
    loss = LabelSmoothedLoss(smoothing)
    deferred, labels = example(bias=bias, added=added)
    found = loss({"logits": deferred}, labels)
    assert not deferred.is_made
    expected = loss({"logits": deferred.logits}, labels)
    torch.testing.assert_close(found, expected)
    for got, wanted in zip(
        gradients(deferred, 3 * found), gradients(deferred, 3 * expected), strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_gradient_by_finite_differences() -> None:
    given, labels = example()

    def loss(hidden, weight, bias):
        kinds = (given.product_type, given.dtype)
        deferred = DeferredLogits(hidden, weight, bias, given.added, *kinds)
        return LabelSmoothedLoss(0.2)({"logits": deferred}, labels, 7)

    assert torch.autograd.gradcheck(loss, (given.hidden, given.weight, given.bias))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(dtype) -> None:
    loss = LabelSmoothedLoss(0.1)
    deferred, labels = example(dtype, tokens=(3, 400))
    found = loss({"logits": deferred}, labels)
    assert found.dtype == torch.float32
    wide = [x.detach().float() for x in (deferred.hidden, deferred.weight, deferred.bias)]
    exact = DeferredLogits(
        *(x.requires_grad_() for x in wide), deferred.added.float(), torch.float32, torch.float32
    )
    expected = loss({"logits": exact}, labels)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)
    halves, wholes = gradients(deferred, found), gradients(exact, expected)
    for got, wanted in zip(halves, wholes, strict=True):
        assert got.dtype == dtype
        assert (got - wanted).norm() < 0.01 * wanted.norm()


def test_makes_only_the_gradients_that_are_wanted() -> None:
    deferred, labels = example()
    loss = LabelSmoothedLoss(0.1)
    for leaf in (deferred.hidden, deferred.weight, deferred.bias):
        others = {x for x in (deferred.hidden, deferred.weight, deferred.bias) if x is not leaf}
        (wanted,) = torch.autograd.grad(loss({"logits": deferred}, labels), leaf)
        for other in others:
            other.requires_grad_(False)
        loss({"logits": deferred}, labels).backward()
        torch.testing.assert_close(leaf.grad, wanted)
        assert all(other.grad is None for other in others)
        for other in others:
            other.requires_grad_()
        leaf.grad = None
    with torch.no_grad():
        assert not loss({"logits": deferred}, labels).requires_grad


def test_all_padding_is_zero_and_not_nan() -> None:
    deferred, labels = example()
    loss = LabelSmoothedLoss(0.1)({"logits": deferred}, torch.full_like(labels, -100))
    assert loss.item() == 0
    assert all((grad == 0).all() for grad in gradients(deferred, loss))


def test_refuses_what_it_refuses_of_logits() -> None:
    deferred, labels = example()
    with pytest.raises(ValueError, match=r"\(3, 4, 11\) do not fit labels of shape \(3, 3\)"):
        LabelSmoothedLoss(0.1)({"logits": deferred}, labels[:, 1:])


OPERATIONS = {
    "minus": lambda x: x - 1,
    "from_the_left": lambda x: 1 + x,
    "tensor_from_the_left": lambda x: torch.ones(11) * x,
    "scaled": lambda x: x / 2,
    "compared": lambda x: x > 0,
    "cut": lambda x: x[:, 1:],
    "method": lambda x: x.view(-1, x.size(-1)),
    "function": lambda x: torch.tanh(x),
    "within_a_list": lambda x: torch.cat([x, x]),
    "two_biases": lambda x: x + torch.ones(11) + torch.ones(1, 11),
    "a_bias_for_each_token": lambda x: x + torch.ones(3, 4, 1),
    "a_number": lambda x: x + 1,
    "a_bias_that_learns": lambda x: x + torch.ones(11, requires_grad=True),
    "narrowed": lambda x: x.float(),
    "length": lambda x: torch.tensor([len(x), x.dim(), *x.shape]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_is_logits_to_everyone_else(name) -> None:
    (one, _), (two, _) = example(), example()
    found, wanted = OPERATIONS[name](one), OPERATIONS[name](two.logits)
    found = found.logits if isinstance(found, DeferredLogits) else found
    assert torch.equal(found, wanted)
    assert found.requires_grad == wanted.requires_grad


@pytest.mark.parametrize("change", ["method", "item"])
def test_changes_in_place_count(change) -> None:
    deferred, labels = example()
    labels = labels.clamp(min=1)
    if change == "method":
        deferred.clamp_(max=0)
    else:
        deferred[..., 0] = -9
    changed = deferred + 1
    expected = LabelSmoothedLoss(0.1)({"logits": deferred.logits}, labels)
    for logits in (deferred, changed, deferred.float()):
        found = LabelSmoothedLoss(0.1)({"logits": logits}, labels)
        torch.testing.assert_close(found, expected, check_dtype=False)


def test_float_and_bias_stay_deferred() -> None:
    deferred, _ = example(torch.bfloat16, added=False)
    biased = deferred.float() + torch.arange(11.0).reshape(1, 11)
    assert isinstance(biased, DeferredLogits)
    assert biased.dtype == biased.logits.dtype == torch.float32
    assert torch.equal(biased.logits, deferred.logits.float() + torch.arange(11.0))


@pytest.mark.parametrize("name", SEQ2SEQ_FAMILIES)
def test_families(name) -> None:
    model = make(name)
    inputs, labels = inputs_of(model, name)
    expected, loss, _ = step(model, inputs, labels, plain)
    found, same_loss, outputs = step(model, inputs, labels, deferred_head)
    deferred = isinstance(outputs.logits, DeferredLogits) and not outputs.logits.is_made
    assert deferred == (name not in ASK_FOR_LOGITS)
    torch.testing.assert_close(same_loss, loss)
    assert found.keys() == expected.keys()
    for key, grad in expected.items():
        torch.testing.assert_close(found[key], grad, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("is_fast", [True, False])
def test_under_autocast(monkeypatch, is_fast) -> None:
    monkeypatch.setattr(head_loss_module, "multiplies_bfloat16", lambda: is_fast)
    model = make("marian")
    model.final_logits_bias.normal_()
    inputs, labels = inputs_of(model, "marian")

    @contextlib.contextmanager
    def cast(context, model):
        with torch.autocast("cpu", torch.bfloat16), context(model):
            yield

    expected, loss, _ = step(model, inputs, labels, lambda m: cast(plain, m))
    found, same_loss, outputs = step(model, inputs, labels, lambda m: cast(deferred_head, m))
    assert outputs.logits.product_type == (torch.bfloat16 if is_fast else torch.float32)
    assert outputs.logits.dtype == same_loss.dtype == torch.float32
    torch.testing.assert_close(same_loss, loss, rtol=1e-3, atol=0)
    for key, grad in expected.items():
        if "k_proj.bias" not in key:  # rounding noise alone
            assert (found[key] - grad).norm() < 0.03 * grad.norm(), key


def test_does_nothing_where_it_cannot_help() -> None:
    model = make("marian")
    inputs, _ = inputs_of(model, "marian")
    assert not returns_logits(model, inputs)
    assert "forward" not in vars(model.lm_head)
    with torch.no_grad():
        assert returns_logits(model, inputs)
    model.eval()
    assert returns_logits(model, inputs)
    model.train()
    seen = []
    hook = model.lm_head.register_forward_hook(lambda *args: seen.append(type(args[-1])))
    assert returns_logits(model, inputs)
    assert seen == [torch.Tensor]
    hook.remove()
    model.lm_head.forward = model.lm_head.forward  # someone else's
    assert returns_logits(model, inputs)
    assert "forward" in vars(model.lm_head)
    del model.lm_head.forward
    model.lm_head.weight = nn.Parameter(torch.ones(0))  # an engine that keeps weights elsewhere
    with deferred_head(model):
        assert "forward" not in vars(model.lm_head)
    with deferred_head(nn.Linear(2, 2)):
        pass


def test_other_kinds_of_head_and_compiled_models_stay_as_they_are() -> None:
    model = make("t5_gated_untied")
    inputs, _ = inputs_of(model, "t5_gated_untied")
    compiled = deepcopy(model)
    compiled.encoder.compile(backend="eager")
    with deferred_head(compiled):
        assert "forward" not in vars(compiled.lm_head)
    model.lm_head.__class__ = type("OtherLinear", (nn.Linear,), {})
    assert returns_logits(model, inputs)


def test_head_is_given_back_after_an_error() -> None:
    model = make("marian")
    with pytest.raises(RuntimeError), deferred_head(model):
        raise RuntimeError
    assert "forward" not in vars(model.lm_head)


def test_other_types_of_weight_fail_as_ever() -> None:
    model = make("marian")
    inputs, _ = inputs_of(model, "marian")
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().double())
    with pytest.raises(RuntimeError, match="dtype"), deferred_head(model):
        model(**inputs)
