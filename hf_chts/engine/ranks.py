"""Several processes that train one model: who works out which layer, and what is exchanged."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hf_chts.engine.layer_memory import KEPT
from hf_chts.engine.side_by_side import side_by_side
from hf_chts.layers import structure
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers

Mask = Bool[Tensor, "out in"]
T = TypeVar("T")


def world_size() -> int:
    """How many processes train together; 1 where there is only this one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def leave_group() -> None:
    """End this process's part in training by several, if there are several, as its last act.

    A group left to the end of Python aborts the process at times. One that a wrapped model outlives
    may hang (torch 2.13: the model's end waits, in Python, for a thread that waits for Python), so
    what is out of use goes first. Call it where the trainer is out of scope.
    """
    gc.collect()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class SharedWork:
    """One topology update, its layers shared out over ranks.

    Every rank works out the masks of its own layers; one all-reduce of packed bits then gives all
    masks to all ranks. Ranks so agree, whatever each one's arithmetic does.

    Attributes:
        seconds: Wall time spent by layer; where there are several ranks, by its owner alone.
    """

    def __init__(self, layers: Mapping[str, SparseLinear]) -> None:
        self.layers = layers
        self.owners = _owners(layers, world_size())
        self.rank = own_rank()
        self.seconds = dict.fromkeys(layers, 0.0)

    def masks(self, names: Collection[str], work_out: Callable[[str], Mask]) -> dict[str, Mask]:
        """Masks of these layers, each worked out by its owner."""
        own, seconds = side_by_side(filter(self._owns, names), work_out, self._device)
        self.add(seconds)
        return own if world_size() == 1 else self._exchange(names, own)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count time spent on layers, where this rank owns them."""
        for name in filter(self._owns, seconds):
            self.seconds[name] += seconds[name]

    def share(self, seconds: float) -> None:
        """Count time that concerned all layers."""
        self.add(dict.fromkeys(self.layers, seconds / len(self.layers)))

    def all_seconds(self) -> dict[str, float]:
        """Seconds by layer, of all ranks."""
        if world_size() == 1:
            return self.seconds
        together = torch.tensor(list(self.seconds.values()), device=self._device)
        dist.all_reduce(together)
        return dict(zip(self.layers, together.tolist(), strict=True))

    def _owns(self, name: str) -> bool:
        return self.owners[name] == self.rank

    @property
    def _device(self) -> torch.device:
        return next(iter(self.layers.values())).values.device

    def _exchange(self, names: Collection[str], own: Mapping[str, Mask]) -> dict[str, Mask]:
        """All masks: ranks' bits do not overlap, so their sum is their union."""
        layers = {name: self.layers[name] for name in names}
        packed = [
            structure.pack(own[name])
            if name in own
            else torch.zeros(_n_bytes(layer), dtype=torch.uint8, device=layer.values.device)
            for name, layer in layers.items()
        ]
        together = torch.cat(packed)
        dist.all_reduce(together)
        parts = together.split([_n_bytes(layer) for layer in layers.values()])
        return {
            name: structure.unpack(part, layer.out_features, layer.in_features)
            for part, (name, layer) in zip(parts, layers.items(), strict=True)
        }


def keep_from_ddp(model: nn.Module) -> None:
    """Keep links out of ``DistributedDataParallel``, which is yet to be made.

    It cannot follow weights whose number changes, and would send indices at every forward. What it
    leaves is for :func:`broadcast_layers` and :func:`average_gradients`.
    """
    kept = ("values", "crow_indices", "col_indices", *KEPT)
    names = [f"{name}.{leaf}" for name in sparse_layers(model) for leaf in kept]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)


def gather_over_ranks(item: T) -> list[T]:
    """What each rank has, in their order; all of them call this."""
    items = [item] * world_size()
    if len(items) > 1:
        dist.all_gather_object(items, item)
    return items


def sum_over_ranks(tensor: Tensor) -> None:
    """Add up a tensor of all ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)


@torch.no_grad()
def broadcast_layers(layers: Mapping[str, SparseLinear]) -> None:
    """Rank 0's links and weights on every rank."""
    for layer in layers.values():
        for tensor in (layer.values.data, layer.crow_indices, layer.col_indices):
            wide = tensor.int() if tensor.dtype == torch.int16 else tensor
            dist.broadcast(wide, 0)
            tensor.copy_(wide)
        layer.rebuild_index()


@torch.no_grad()
def average_gradients(layers: Mapping[str, SparseLinear]) -> None:
    """One all-reduce of all link gradients, about a tenth of the dense traffic."""
    values = [layer.values for layer in layers.values() if layer.values.requires_grad]
    if not values:
        return
    grads = [torch.zeros_like(v) if v.grad is None else v.grad for v in values]
    flat = torch.cat([grad.float() for grad in grads])
    dist.all_reduce(flat)
    flat /= world_size()
    for value, grad in zip(values, flat.split([v.numel() for v in values]), strict=True):
        value.grad = grad.to(value.dtype)


def _n_bytes(layer: SparseLinear) -> int:
    return -(-layer.out_features * layer.in_features // 8)


def _owners(layers: Mapping[str, SparseLinear], ranks: int) -> dict[str, int]:
    """The rank that works out each layer: the largest layers first, to the least loaded rank."""
    load = [0] * ranks
    owners = {}
    sizes = {name: layer.out_features * layer.in_features for name, layer in layers.items()}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        owners[name] = load.index(min(load))
        load[owners[name]] += sizes[name]
    return owners
