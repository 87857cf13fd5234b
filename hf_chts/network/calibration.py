"""What layers see when data runs through a model, for initial topologies that follow the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_chts.network.linears import Finding

Batch = Tensor | Mapping[str, Any]
Data = Batch | Iterable[Batch]

MAX_SAMPLES = 16384
"""Rows kept of each layer's inputs: enough for correlations, and a bound on memory."""


class LayerInputs(NamedTuple):
    """Inputs of one layer.

    Attributes:
        samples: Input features in float32 on the CPU, one row a sample (or token), at most
            ``MAX_SAMPLES``, the first that came.
        raw: Whether they are the given data themselves and not the output of other layers.
    """

    samples: Float[Tensor, "samples in"]
    raw: bool


@torch.no_grad()
def layer_inputs(
    model: nn.Module, findings: Iterable[Finding], data: Data
) -> dict[str, LayerInputs]:
    """Run data through a model, in evaluation mode, and keep what linear layers see.

    Args:
        model: The model; left as it was.
        findings: The layers to listen to.
        data: A batch, as a tensor or as named arguments of the model, or an iterable of batches.

    Returns:
        Inputs by layer name; layers that the data did not reach are left out.

    Raises:
        TypeError: If a batch is neither a tensor nor a mapping.
        ValueError: If there is no batch.
    """
    found: dict[str, list[Tensor]] = {finding.name: [] for finding in findings}
    raw: dict[str, bool] = {}
    storages: set[int] = set()
    hooks = [
        finding.module.register_forward_pre_hook(
            _listener(found[finding.name], finding, raw, storages)
        )
        for finding in findings
    ]
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        n_batches = 0
        for batch in [data] if isinstance(data, Tensor | Mapping) else data:
            _run(model, batch, storages)
            n_batches += 1
    finally:
        for hook in hooks:
            hook.remove()
        for module, was in training.items():
            module.training = was
    if n_batches == 0:
        raise ValueError("calibration holds no batch: give a tensor, named arguments, or several")
    return {n: LayerInputs(torch.cat(rows), raw[n]) for n, rows in found.items() if rows}


def _run(model: nn.Module, batch: Any, storages: set[int]) -> None:
    """One forward; notes which storages hold the data itself."""
    if not isinstance(batch, Tensor | Mapping):
        raise TypeError(
            f"a calibration batch is a tensor or a mapping of the model's arguments; got a "
            f"{type(batch).__name__}"
        )
    device = next(model.parameters()).device
    named = {} if isinstance(batch, Tensor) else dict(batch)
    named = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in named.items()}
    positional = (batch.to(device),) if isinstance(batch, Tensor) else ()
    tensors = [v for v in (*positional, *named.values()) if isinstance(v, Tensor)]
    storages.clear()
    storages.update(tensor.untyped_storage().data_ptr() for tensor in tensors)
    model(*positional, **named)


def _listener(
    rows: list[Tensor], finding: Finding, raw: dict[str, bool], storages: set[int]
) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def listen(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x: Tensor = inputs[0]
        raw[finding.name] = x.untyped_storage().data_ptr() in storages
        room = MAX_SAMPLES - sum(map(len, rows))
        if room > 0:
            rows.append(x.detach().reshape(-1, x.shape[-1])[:room].float().cpu().clone())

    return listen
