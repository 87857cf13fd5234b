"""Transforms of ``torch.func`` through sparse layers, beside the same of a dense layer."""

import pytest
import torch
import torch.nn.functional as F
from sparse_cases import IN, layer_of
from torch.func import functional_call, grad, jacrev, vmap


def of_layer(layer):
    """The layer as a function of its parameters and its input."""
    return lambda parameters, x: functional_call(layer, parameters, (x,))


def of_dense(layer):
    def call(parameters, x):
        weight = torch.zeros(layer.out_features * IN).index_put(
            (layer.positions,), parameters["values"]
        )
        return F.linear(x, weight.view(-1, IN), parameters["bias"])

    return call


def loss_of(call):
    return lambda parameters, x: call(parameters, x).square().sum()


def per_sample(call):
    return vmap(grad(loss_of(call)), in_dims=(None, 0))


def of_several_models(call):
    def mean(parameters, x):
        several = {name: torch.stack([p, 2 * p]) for name, p in parameters.items()}
        return vmap(call, in_dims=(0, None))(several, x)

    return mean


TRANSFORMS = {
    "gradient": lambda call: grad(loss_of(call)),
    "gradient of each sample": per_sample,
    "mapped": lambda call: vmap(call, in_dims=(None, 0)),
    "several models": of_several_models,
    "jacobian": lambda call: jacrev(call, argnums=1),
    "twice": lambda call: jacrev(grad(loss_of(call), argnums=1), argnums=1),
}


@pytest.mark.parametrize("kernel", ["dense", "auto"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("learns", [True, False])
def test_transforms_equal_those_of_the_dense_layer(kernel, transform, learns):
    layer, x = layer_of(kernel=kernel), torch.randn(4, IN)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    with torch.set_grad_enabled(learns):
        got = transform(of_layer(layer))(parameters, x)
        want = transform(of_dense(layer))(parameters, x)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
