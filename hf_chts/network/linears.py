"""Which linear layers a model has, and which of them become sparse."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from transformers.pytorch_utils import Conv1D

from hf_chts.config import SparsityConfig
from hf_chts.layers.sparse_linear import sparse_layers

LINEAR_CLASSES = (nn.Linear, Conv1D)
"""Exactly these can become sparse: code that uses a subclass may read its weight."""

PROTECTED = {
    "output head": r"(^|\.)(lm_head|output_projection|final_logits|generator|cls)(\.|$)",
    "routing": r"(^|\.)router(\.|$)",
    "classification": r"(^|\.)(classifier|classification_head|score|qa_outputs|pooler)(\.|$)",
    "position bias": r"(^|\.)relative_pos_embeddings(\.|$)",
    "other modality": r"(^|\.)(vision|audio)_(tower|model)\.|(^|\.)multi_modal_projector(\.|$)",
}
"""Layers that stay dense unless their full name is given, by regular expression on the name."""


@dataclass(frozen=True)
class Finding:
    """One linear layer of a model.

    Attributes:
        names: Qualified names; more than one where a model uses a layer in several places.
        module: The layer.
        sparse: Whether it becomes sparse.
        reason: Why, or why not.
    """

    names: tuple[str, ...]
    module: nn.Module
    sparse: bool
    reason: str

    @property
    def name(self) -> str:
        """The first qualified name."""
        return self.names[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return linear_shape(self.module)

    @property
    def out_features(self) -> int:
        """Output neurons."""
        return self.shape[0]

    @property
    def in_features(self) -> int:
        """Input neurons."""
        return self.shape[1]


def used_once(findings: Iterable[Finding]) -> dict[str, Finding]:
    """The layers that become sparse and have one place in the model, by name."""
    return {f.name: f for f in findings if f.sparse and len(f.names) == 1}


def is_linear(module: nn.Module) -> bool:
    """Whether a module is one of ``LINEAR_CLASSES``, also with parametrizations of torch's."""
    kind = type(module)
    return (kind.__base__ if is_parametrized(module) else kind) in LINEAR_CLASSES


def linear_shape(module: nn.Module) -> tuple[int, int]:
    """(out_features, in_features) of an ``nn.Linear`` or ``Conv1D``."""
    # a weight that is computed is not looked at: spectral_norm changes when it is
    names = ("nf", "nx") if isinstance(module, Conv1D) else ("out_features", "in_features")
    return getattr(module, names[0]), getattr(module, names[1])


def find_linears(
    model: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[Finding]:
    """List every linear layer with the decision about it.

    Args:
        model: Any module.
        include: Suffixes or regular expressions; empty for all.
        exclude: Likewise; wins over ``include``.

    Raises:
        ValueError: If a pattern is no regular expression or matches nothing, if a layer has no
            shape yet, or if no layer is left to make sparse.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(
                f"{name} has no shape yet, for its layer is lazy: pass one batch through the model "
                "first"
            )
    names = _names_by_module(model)
    every = [name for group in names.values() for name in group]
    if not every:
        raise ValueError(
            f"nothing to patch: {type(model).__name__} has no nn.Linear or Conv1D layer"
        )
    for pattern in (*include, *exclude):
        if not any(_matches(pattern, name) for name in every):
            raise ValueError(
                f"pattern {pattern!r} matches no linear layer; there are: {_families(every)}"
            )
    shared = _shared_weights(model)
    findings = []
    for module, group in names.items():
        reason = _why_dense(model, module, group, include, exclude, shared)
        findings.append(Finding(tuple(group), module, not reason, reason or "linear layer"))
    if not any(finding.sparse for finding in findings):
        why = "; ".join(f"{f.name}: {f.reason}" for f in findings[:5])
        raise ValueError(f"nothing to patch: all {len(findings)} linear layers stay dense ({why})")
    return findings


def family(name: str) -> str:
    """A layer's name with all numbers replaced but its own: ``layers.*.fc1``, ``net.0``."""
    parents, dot, own = name.rpartition(".")
    return ".".join("*" if part.isdigit() else part for part in parents.split(".")) + dot + own


def _names_by_module(model: nn.Module) -> dict[nn.Module, list[str]]:
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, LINEAR_CLASSES) and name:
            names.setdefault(module, []).append(name)
    return names


def _shared_weights(model: nn.Module) -> set[int]:
    """Identities of weights that more than one module holds, or that will be tied."""
    holders: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), set()).add(id(module))
    return {weight for weight, modules in holders.items() if len(modules) > 1}


def _why_dense(
    model: nn.Module,
    module: nn.Module,
    names: list[str],
    include: Sequence[str],
    exclude: Sequence[str],
    shared: set[int],
) -> str | None:
    if not is_linear(module):
        return f"of class {type(module).__name__}"
    tied = {key.rpartition(".")[0] for key in _tied_names(model)}
    if tied & set(names):
        return "tied weights"
    if is_parametrized(module) or not isinstance(module.weight, nn.Parameter):  # torch's pruning
        return "its weights are computed from others"
    if id(module.weight) in shared:
        return "tied weights"
    if _any_match(exclude, names):
        return "excluded"
    if include and not _any_match(include, names):
        return "not included"
    if set(include) & set(names):
        return None
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if module is head:
        return "output head"
    for reason, pattern in PROTECTED.items():
        if any(re.search(pattern, name) for name in names):
            return reason
    return None


def _tied_names(model: nn.Module) -> Iterable[str]:
    """Both ends of every tie that Transformers knows of."""
    ties = getattr(model, "all_tied_weights_keys", None) or {}
    return [*ties.keys(), *ties.values()]


def _any_match(patterns: Sequence[str], names: list[str]) -> bool:
    return any(_matches(pattern, name) for pattern in patterns for name in names)


def _matches(pattern: str, name: str) -> bool:
    if name == pattern or name.endswith("." + pattern):
        return True
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression: {error}") from None


def _families(names: Iterable[str]) -> str:
    known = list(dict.fromkeys(family(name) for name in names))
    return ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")


def scaled_layers(model: nn.Module, config: SparsityConfig) -> dict[str, nn.Module]:
    """The layers whose learning rate is ``learning_rate_scale`` times the others', by name.

    They are the sparse ones. In a dense model they are those that another method would make
    sparse, or none where the scale is 1.
    """
    sparse, scale = sparse_layers(model), config.learning_rate_scale
    at_full_density = config.base_density if scale == "smupar" else scale
    if config.method != "dense" or at_full_density == 1:
        return dict(sparse)
    findings = find_linears(model, config.include, config.exclude)
    return {finding.name: finding.module for finding in findings if finding.sparse}
