"""Small plain models, for tests of patching."""

import itertools

from torch import nn


def perceptron(*widths, bias=True):
    layers = []
    for inp, out in itertools.pairwise(widths):
        layers += [nn.Linear(inp, out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
