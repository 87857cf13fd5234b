"""A small sparse layer, for tests."""

import torch
from torch import nn

from hf_chts.layers.sparse_linear import SparseLinear

OUT, IN = 6, 10


def layer_of(n_links=20, *, bias=True, dtype=torch.float32, seed=0, kernel="dense"):
    generator = torch.Generator().manual_seed(seed)
    layer = SparseLinear(IN, OUT, n_links, bias, kernel=kernel, dtype=dtype)
    positions = torch.randperm(OUT * IN, generator=generator)[:n_links].sort().values
    layer.set_links(positions, torch.randn(n_links, generator=generator).to(dtype))
    if bias:
        nn.init.normal_(layer.bias, generator=generator)
    return layer


KERNELS = ["dense", "auto"]


def backward(layer, x, target, call=None):
    y = layer(x) if call is None else call(layer, x)
    (y * target).square().sum().backward()
