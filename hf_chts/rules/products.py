"""Products with a layer's mask that skip its inactive links."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_chts.layers.kernels import dense, native


def times_transposed(
    mask: Bool[Tensor, "out in"], dtype: torch.dtype = torch.float32
) -> Callable[[Float[Tensor, "rows in"]], Float[Tensor, "rows out"]]:
    """Make the function ``x -> x @ mask.T``, by the kernels that layers compute with.

    >>> times_transposed(torch.tensor([[True, False], [True, True]]))(torch.tensor([[2.0, 3.0]]))
    tensor([[2., 5.]])

    Args:
        mask: True at active links, which count 1.
        dtype: Type of ``x`` and of the product.
    """
    columns = (mask.flatten().nonzero().squeeze(1) % mask.shape[1]).to(torch.int32)
    starts = torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0)).to(torch.int32)
    ones = torch.ones(len(columns), dtype=dtype, device=mask.device)
    kernel = dense if native.why_unavailable(ones) else native
    index = kernel.build_index(starts, columns, *mask.shape)
    return lambda x: kernel.linear(x, ones, None, index, *mask.shape)
