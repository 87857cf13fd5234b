"""Rules by name, each with the paper it comes from."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from torch import Tensor

Reads = Literal["weight", "grad", "dense_grad", "correlation"]


class Rule(NamedTuple):
    """A rule: a function, what it reads beside mask and weight, and where it comes from."""

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
            self[name] = Rule(function, source, reads)
            return function

        return add

    def make(self, spec: str | dict[str, Any]) -> Rule:
        """Look a rule up and fix its parameters.

        Args:
            spec: The rule's name, or a mapping with the name under ``rule`` and its parameters,
                for example ``{"rule": "brf", "r": 0.1}``.

        Returns:
            The rule; its function now takes one argument.

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
        return rule._replace(function=functools.partial(rule.function, **params))


def import_siblings(package: str, path: Iterable[str]) -> None:
    """Import every module of ``package``, so that its rules register themselves."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
