"""Saving and loading sparse models by Transformers' own ``save_pretrained``/``from_pretrained``.

Importing this module registers a quantizer plug-in under the name ``chts``. ``config.json`` then
names the sparse layers; the checkpoint's header tells how many links each of them has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.utils.quantization_config import QuantizationConfigMixin

from hf_chts.compaction import remember_compacted
from hf_chts.compaction.sites import fit_heads, refuse_misfit
from hf_chts.config import SparsityConfig, from_mapping
from hf_chts.layers.kernels import native
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.network.linears import LINEAR_CLASSES, linear_shape

NAME = "chts"
MODULE_NAME = r"[\w-]+(\.[\w-]+)*"
"""What a layer's qualified name may be, as a regular expression."""


class ChtsQuantizationConfig(QuantizationConfigMixin):
    """The ``quantization_config`` entry of a sparse model's ``config.json``.

    Attributes:
        sparsity: Fields of the :class:`SparsityConfig`.
        layers: Shape (out_features, in_features) of each sparse layer by qualified name.
        compacted: Layers that :func:`hf_chts.compact` made differ from the architecture, by name:
            ``dense_shape`` is their shape by the architecture, ``bias`` whether they have one.

    Raises:
        ValueError: If one of these is not what it should be.
    """

    def __init__(
        self,
        sparsity: Mapping[str, Any] | None = None,
        layers: Mapping[str, list[int]] | None = None,
        compacted: Mapping[str, dict[str, Any]] | None = None,
        **_: Any,
    ) -> None:
        self.quant_method = NAME
        self.sparsity = _mapping("sparsity", sparsity)
        self.layers = _mapping("layers", layers)
        self.compacted = _mapping("compacted", compacted)
        _refuse_broken(self.layers, self.compacted)


class ChtsQuantizer(HfQuantizer):
    """Puts sparse layers into a model's skeleton before Transformers loads the weights."""

    requires_calibration = True  # a dense checkpoint is made sparse by sparsify(), not on the fly

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """Sparse models are saved like any other."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Sparse models are made to be trained."""
        return True

    def param_needs_quantization(self, model: nn.Module, param_name: str, **kwargs: Any) -> bool:
        """Let the tensors of sparse layers differ in length from the skeleton's."""
        owner, _, leaf = param_name.rpartition(".")
        if leaf not in ("values", "col_indices"):
            return False
        return isinstance(dict(model.named_modules()).get(owner), SparseLinear)

    def _process_model_before_weight_loading(
        self, model: nn.Module, checkpoint_files: list[str] | None = None, **kwargs: Any
    ) -> nn.Module:
        counts = None if checkpoint_files is None else _link_counts(checkpoint_files)
        modules = dict(model.named_modules())
        self.frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        renamed = _locate(model, self.quantization_config.layers, modules)
        compacted = self.quantization_config.compacted
        self.compacted = {renamed[saved]: x for saved, x in compacted.items() if saved in renamed}
        for saved, name in renamed.items():
            dense = modules[name]
            out_features, in_features = shape = self.quantization_config.layers[saved]
            built = compacted.get(saved, {"dense_shape": shape})
            _refuse_other_shape(name, dense, *built["dense_shape"])
            sparse = SparseLinear(
                in_features,
                out_features,
                _count_of(saved, name, counts),
                built.get("bias", dense.bias is not None),
                dense_class=type(dense),
                device="meta",
                dtype=dense.weight.dtype,
            )
            model.set_submodule(name, sparse)
        fit_heads(model)
        refuse_misfit(model, self.compacted)
        return model

    def postprocess_model(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        """Check the indices, and hand back an ordinary model that knows of no quantizer."""
        super().postprocess_model(model, **kwargs)
        config = from_mapping(SparsityConfig, self.quantization_config.sparsity)
        for name, layer in sparse_layers(model).items():
            wrong = layer.what_is_wrong()
            if wrong is not None:
                raise ValueError(f"the checkpoint's links of {name} are damaged: {wrong}")
            missing = config.kernel == "native" and native.why_unavailable(layer.values)
            layer.kernel = "auto" if missing else config.kernel  # it was asked for elsewhere
            layer.rebuild_index()
        for module in model.modules():
            if hasattr(getattr(module, "config", None), "_is_quantized"):
                del module.config._is_quantized  # type: ignore[union-attr]
        for name, parameter in model.named_parameters():
            if name in self.frozen:  # from_pretrained thaws tables of sinusoids
                parameter.requires_grad_(False)
        model.is_quantized = False  # type: ignore[assignment]
        model.hf_quantizer = None  # type: ignore[assignment]
        model.__dict__.pop("quantization_method", None)
        remember_compacted(model, config, self.compacted)
        return model


if NAME not in AUTO_QUANTIZER_MAPPING:
    register_quantization_config(NAME)(ChtsQuantizationConfig)
    register_quantizer(NAME)(ChtsQuantizer)


def from_pretrained(directory: str | os.PathLike[str], **kwargs: Any) -> Any:
    """Load a sparse model, strictly.

    Args:
        directory: A folder written by ``save_pretrained``, or a hub id.
        **kwargs: Options of Transformers' ``from_pretrained``, for example ``dtype``.

    Returns:
        The model, of the class that was saved.

    Raises:
        ValueError: If the checkpoint has no topology, or any tensor is missing or left over.
    """
    kwargs["trust_remote_code"] = False  # no code of a checkpoint is ever run
    config = transformers.AutoConfig.from_pretrained(directory, **kwargs)
    if (getattr(config, "quantization_config", None) or {}).get("quant_method") != NAME:
        raise ValueError(
            f"{directory} holds no sparse topology: load it with a Transformers auto class and "
            "make it sparse with hf_chts.sparsify"
        )
    name = (config.architectures or ["AutoModelForSeq2SeqLM"])[0]
    model_class = getattr(transformers, name, transformers.AutoModelForSeq2SeqLM)
    try:
        model, info = model_class.from_pretrained(directory, output_loading_info=True, **kwargs)
    except (ValueError, OSError):
        raise
    except Exception as error:  # readers of damaged files raise errors of their own
        raise ValueError(f"{directory} cannot be read: {' '.join(str(error).split())}") from error
    problems = {key: sorted(map(str, names)) for key, names in info.items() if names}
    if problems:
        listed = "; ".join(f"{key}: {', '.join(names[:5])}" for key, names in problems.items())
        raise ValueError(f"{directory} does not fit {name} exactly: {listed}")
    return model


def save_pretrained(
    model: Any, directory: str | os.PathLike[str], values_dtype: torch.dtype | None = None
) -> None:
    """Save a sparse model, if wanted with its link weights in a smaller type.

    ``model.save_pretrained`` does the same without the second option.

    Args:
        model: A sparse Transformers model.
        directory: Folder to write.
        values_dtype: Type of the link weights in the file, for example ``torch.bfloat16``: sparse
            layers at 90% sparsity then take a tenth of their dense float32 bytes.

    Raises:
        ValueError: If the model has no sparse layer, or the type is no floating-point one.
    """
    layers = sparse_layers(model)
    if not layers:
        raise ValueError("the model has no sparse layer: use model.save_pretrained")
    state = model.state_dict()
    if values_dtype is not None:
        if not values_dtype.is_floating_point:
            raise ValueError(f"values_dtype must be a floating-point type; got {values_dtype}")
        for name in layers:
            state[f"{name}.values"] = state[f"{name}.values"].to(values_dtype)
    model.save_pretrained(directory, state_dict=state)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"the quantization_config's {name} must be a mapping; got {value!r}")
    return dict(value)


def _refuse_broken(layers: Mapping[str, Any], compacted: Mapping[str, Any]) -> None:
    """Refuse names that are no module's and sizes that are no layer's."""
    for name, shape in layers.items():
        if not isinstance(name, str) or not re.fullmatch(MODULE_NAME, name):
            raise ValueError(f"the quantization_config names no layer of a model: {name!r}")
        if not _is_shape(shape):
            raise ValueError(
                f"the quantization_config's {name} must be [out_features, in_features], two "
                f"integers of at least 1; got {shape!r}"
            )
    for name, entry in compacted.items():
        sound = isinstance(entry, Mapping) and entry.keys() == {"dense_shape", "bias"}
        if (
            name not in layers
            or not sound
            or not _is_shape(entry["dense_shape"])
            or not isinstance(entry["bias"], bool)
            or any(n > most for n, most in zip(layers[name], entry["dense_shape"], strict=True))
        ):
            raise ValueError(
                f"the quantization_config's compacted {name!r} must be a layer, with its "
                "dense_shape (two integers, no less than the layer's) and bias (true or false); "
                f"got {entry!r}"
            )


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(type(number) is int and number >= 1 for number in value)
    )


def _link_counts(files: Iterable[str]) -> dict[str, int]:
    """Number of links of every sparse layer in the files, from their headers alone."""
    counts = {}
    for path in files:
        with _opened(path) as tensors:
            for key in tensors.keys():  # noqa: SIM118  # not a dict
                owner, _, leaf = key.rpartition(".")
                if leaf == "values":
                    counts[owner] = tensors.get_slice(key).get_shape()[0]
    return counts


def _opened(path: str) -> Any:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged or no safetensors file ({error}): copy the model again, or take "
            "one of the run's checkpoints"
        ) from None


def _locate(
    model: nn.Module, layers: Mapping[str, Any], modules: Mapping[str, nn.Module]
) -> dict[str, str]:
    """Where the saved layers stand in this model, with or without the base model's prefix."""
    prefix = getattr(model, "base_model_prefix", "") + "."
    found = {}
    for saved in layers:
        for name in (saved, prefix + saved, saved.removeprefix(prefix)):
            if name in modules:
                found[saved] = name
                break
    if layers and not found:
        raise ValueError(
            f"the checkpoint's sparse layers ({', '.join(list(layers)[:3])}, ...) do not exist in "
            f"{type(model).__name__}: load it with the architecture it was saved from"
        )
    return found


def _count_of(saved: str, name: str, counts: Mapping[str, int] | None) -> int:
    if counts is None:  # weights given as a state dict: lengths follow when they are loaded
        return 1
    if saved not in counts:
        raise ValueError(f"the checkpoint has no topology for {name}: its links were not saved")
    return counts[saved]


def _refuse_other_shape(name: str, dense: nn.Module, out_features: int, in_features: int) -> None:
    known = type(dense) in LINEAR_CLASSES
    found = "{} x {}".format(*linear_shape(dense)) if known else f"a {type(dense).__name__}"
    if found != f"{out_features} x {in_features}":
        raise ValueError(
            f"the checkpoint's {name} is {out_features} x {in_features}, the model's is {found}: "
            "load it with the architecture it was saved from"
        )
