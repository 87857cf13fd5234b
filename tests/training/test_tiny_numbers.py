from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tiny_training import marian, trainer_of
from transformers import TrainerCallback

from hf_chts import SparseLinear
from hf_chts.layers.kernels import native
from hf_chts.training.faster_step import faster_step
from hf_chts.training.tiny_numbers import tiny_is_zero

TINY = 1e-39
PROBE = """
import torch
from hf_chts.training.tiny_numbers import tiny_is_zero
torch.set_num_threads(2)
x = torch.full((1 << 20,), 1e-39)  # long enough for both threads
assert (x * 0.5 != 0).all()
with tiny_is_zero():
    assert (x * 0.5 == 0).all()
    with tiny_is_zero():
        pass
    assert (x * 0.5 == 0).all()
assert (x * 0.5 != 0).all()
"""


def flushes() -> bool:
    return bool((torch.full((4,), TINY) * 0.5 == 0).all())


def test_tiny_numbers_are_zero_inside_and_only_there() -> None:
    assert not flushes()
    with tiny_is_zero():
        assert flushes()
        assert (torch.full((4,), 1.2e-38) * 1.0 != 0).all()
    assert not flushes()
    with pytest.raises(ZeroDivisionError), tiny_is_zero():
        1 / 0  # noqa: B018
    assert not flushes()


def test_what_was_set_before_stays() -> None:
    torch.set_flush_denormal(True)
    try:
        with tiny_is_zero():
            assert flushes()
        assert flushes()
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.skipif(native.isa() is None, reason="needs the native binary")
def test_all_threads_of_torch_follow() -> None:
    ran = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(native.isa() is None, reason="needs the native binary")
def test_the_native_kernel_does_so_by_itself() -> None:
    layer = SparseLinear(8, 4, 6, bias=False, kernel="native")
    layer.set_links(torch.tensor([0, 3, 9, 14, 20, 31]), torch.ones(6))
    for tokens in (1, 5, 40):  # few and many
        x = torch.full((tokens, 8), TINY, requires_grad=True)
        y = layer(x)
        assert (y == 0).all()
        y.backward(torch.full_like(y, TINY))
        assert (x.grad == 0).all()
    assert not flushes()


def test_a_faster_step_has_no_tiny_numbers() -> None:
    with faster_step(torch.nn.Linear(2, 2)):
        assert flushes()
    assert not flushes()


class Flushes(TrainerCallback):
    def __init__(self) -> None:
        self.seen: list[bool] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.seen.append(flushes())


def test_trainers_have_none_from_the_first_step_to_the_last(tmp_path) -> None:
    callback = Flushes()
    trainer_of(marian(), tmp_path, callbacks=[callback], max_steps=3).train()
    assert callback.seen == [True] * 3
    assert not flushes()
