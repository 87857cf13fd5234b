"""The end of a process that trained with others."""

from __future__ import annotations

import weakref

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from hf_chts.engine.ranks import leave_group


def test_a_group_outlives_the_models_that_it_trained() -> None:
    leave_group()  # alone: nothing to leave
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    wrapped = DistributedDataParallel(torch.nn.Linear(2, 2))
    wrapped.itself = [wrapped]  # as trainers do: only the collector frees it
    in_a_group: list[bool] = []
    weakref.finalize(wrapped, lambda: in_a_group.append(dist.is_initialized()))
    del wrapped
    leave_group()
    assert in_a_group == [True]
    assert not dist.is_initialized()
