"""Rules by name, each with the paper it comes from."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hf_chts.rules.links import Links, Site

Reads = Literal["weight", "grad", "dense_grad", "correlation"]


class Rule(NamedTuple):
    """A rule: a function, what it reads beside mask and weight, and where it comes from."""

    name: str
    function: Callable[..., Tensor]
    source: str
    reads: Reads


class Registry(dict[str, Rule]):
    """All rules of one kind (``removal``, ``regrowth`` or ``initial``)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(
        self, name: str, *, source: str, reads: Reads = "weight"
    ) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
        """Make a decorator that adds a rule under ``name``.

        Args:
            name: Name of the rule in recipes, lower case.
            source: Paper with section or equation, and a link.
            reads: ``"grad"`` for the gradient at active links, ``"dense_grad"`` at all links,
                ``"correlation"`` for that of the activations of input and output neurons.

        Returns:
            The decorator; it hands the function back unchanged.

        Raises:
            ValueError: If the name is taken.
        """

        def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            if name in self:
                raise ValueError(
                    f"{self.kind} rule {name!r} is registered already; take another name"
                )
            self[name] = Rule(name, function, source, reads)
            return function

        return add

    def make(self, spec: str | dict[str, Any]) -> Rule:
        """Look a rule up and fix its parameters.

        Args:
            spec: The rule's name, or a mapping with the name under ``rule`` and its parameters,
                for example ``{"rule": "brf", "r": 0.1}``.

        Returns:
            The rule; its function now takes one argument, and raises ValueError where it returns
            what is no choice of links, or no score for every link.

        Raises:
            ValueError: If there is no such rule, or it does not take one of the parameters.
        """
        params = {"rule": spec} if isinstance(spec, str) else dict(spec)
        name = str(params.pop("rule", ""))
        if name not in self:
            close = difflib.get_close_matches(name, self, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"no {self.kind} rule {name!r}: {hint}known: {', '.join(sorted(self))}"
            )
        rule = self[name]
        takes = list(inspect.signature(rule.function).parameters)[1:]
        if unknown := sorted(set(params) - set(takes)):
            known = ", ".join(takes) or "no parameter"
            raise ValueError(f"{self.kind} rule {name!r} takes {known}; got {', '.join(unknown)}")
        function = functools.partial(rule.function, **params)
        return rule._replace(function=functools.partial(self._result, name, function))

    def _result(self, name: str, function: Callable[..., Tensor], network: Links | Site) -> Tensor:
        """What a rule returns, if it fits: a rule may come from anywhere."""
        result = function(network)
        if isinstance(network, Site):
            fits, wanted = _is_start(network, result), "torch.bool of shape "
            wanted += f"{(network.out_features, network.in_features)} with {network.n_links} links"
        else:
            fits, wanted = _are_scores(network, result), "real numbers of shape "
            wanted += f"{tuple(network.mask.shape)}, a score for every link"
        if not fits:
            got = _described(result)
            raise ValueError(f"{self.kind} rule {name!r} must return {wanted}; got {got}")
        return result


def _is_start(site: Site, mask: object) -> bool:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        return False
    right_shape = mask.shape == (site.out_features, site.in_features)
    return right_shape and int(mask.count_nonzero()) == site.n_links


def _are_scores(links: Links, scores: object) -> bool:
    if not isinstance(scores, Tensor) or scores.dtype == torch.bool or scores.is_complex():
        return False
    return scores.shape == links.mask.shape


def _described(result: object) -> str:
    if not isinstance(result, Tensor):
        return type(result).__name__
    what = f"{result.dtype} of shape {tuple(result.shape)}"
    is_mask = result.dtype == torch.bool
    return f"{what} with {int(result.count_nonzero())} links" if is_mask else what


def import_siblings(package: str, path: Iterable[str]) -> None:
    """Import every module of ``package``, so that its rules register themselves."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
