"""Make the linear layers of a model sparse, and dense again."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hf_chts.config import SparsityConfig
from hf_chts.engine.budget import check_rules, link_counts
from hf_chts.layers import structure
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.methods import resolve, settle_method
from hf_chts.network.calibration import Data, LayerInputs, layer_inputs
from hf_chts.network.linears import Finding, find_linears, used_once
from hf_chts.network.patch_report import PatchReport
from hf_chts.network.ties import layers_meet, places
from hf_chts.rules.initial import initial
from hf_chts.rules.links import Site
from hf_chts.rules.randomness import generator_for

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def sparsify(
    model: nn.Module, config: SparsityConfig | None = None, *, calibration: Data | None = None
) -> PatchReport:
    """Replace linear layers by sparse ones, in place.

    Everything is checked and drawn before the first layer is replaced.

    Args:
        model: A Transformers model, or any module with ``nn.Linear`` (or ``Conv1D``) layers.
        config: What to make sparse and how; None for the defaults (90%, method ``"auto"``).
        calibration: Data for initial topologies that look at the inputs of layers (``csti``): a
            batch, as a tensor or as the model's named arguments, or an iterable of batches. Layers
            that see the tensors of ``calibration`` themselves follow ``config.input_initial``.

    Returns:
        What was made sparse, what was left dense and why; print it.

    Raises:
        ValueError: If the model is sparse already, nothing is left to patch, a pattern matches
            nothing, the method or a rule is unknown, the model has adapters, a layer would have no
            link, has no data or has hooks, layers cannot be tied that are to be, or a rule looks at
            inputs and there is no calibration data.
    """
    report, chosen, config = plan(model, config or SparsityConfig())
    if config.method == "dense":  # the baseline: nothing changes, trainers know it is meant
        model.sparsity_config = config  # type: ignore[assignment]
        return report
    _refuse_adapters(model)
    _refuse_meta(chosen)
    _refuse_hooks(chosen)
    counts = {row.name: row.n_links for row in report.rows}
    seen = {} if calibration is None else layer_inputs(model, chosen, calibration)
    with torch.device("cpu"):  # rules draw there, whatever the default device is
        made = {f.name: _make_sparse(f, counts[f.name], config, seen.get(f.name)) for f in chosen}
    if config.tied_links:
        _tie(model, chosen, made)
    for finding in chosen:
        for name in finding.names:
            model.set_submodule(name, made[finding.name])
    _leave_fast_path(model)
    remember(model, config)
    return report


def plan(
    model: nn.Module, config: SparsityConfig
) -> tuple[PatchReport, list[Finding], SparsityConfig]:
    """What :func:`sparsify` would do; works on a model without data (meta device), too.

    Returns:
        The report, the layers that become sparse, and the configuration with nothing left open.

    Raises:
        ValueError: As :func:`sparsify`.
    """
    config = _settle_start(model, config)
    if sparse_layers(model):
        raise ValueError("the model is sparse already: call hf_chts.densify(model) first")
    findings = find_linears(model, config.include, config.exclude)
    if config.method == "dense":
        findings = [dataclasses.replace(f, sparse=False, reason="method dense") for f in findings]
    chosen = [finding for finding in findings if finding.sparse]
    meet = config.method == "auto" and layers_meet(model, used_once(chosen))
    config = resolve(settle_method(config, layers_meet=meet))
    check_rules(config)
    counts = link_counts({f.name: f.shape for f in chosen}, config, progress=0.0)
    return PatchReport.of(model, findings, counts, config), chosen, config


@torch.no_grad()
def densify(model: Model) -> Model:
    """Replace every sparse layer by the kind of dense layer that stood there; same outputs.

    Returns:
        The same model, changed in place.

    Raises:
        ValueError: If the model has no sparse layer.
    """
    if not sparse_layers(model):
        raise ValueError("the model has no sparse layer: nothing to make dense")
    made: dict[int, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, SparseLinear):
            if id(module) not in made:
                made[id(module)] = _make_dense(module)
            model.set_submodule(name, made[id(module)])
    model.__dict__.pop("sparsity_config", None)
    if hasattr(getattr(model, "config", None), "quantization_config"):
        del model.config.quantization_config  # type: ignore[union-attr]
    return model


def remember(model: nn.Module, config: SparsityConfig) -> None:
    """Leave the configuration where trainers and ``save_pretrained`` find it."""
    model.sparsity_config = config  # type: ignore[assignment]
    if hasattr(getattr(model, "config", None), "to_json_string"):
        model.config.quantization_config = {  # type: ignore[union-attr]
            "quant_method": "chts",
            "sparsity": config.to_dict(),
            "layers": {n: [x.out_features, x.in_features] for n, x in sparse_layers(model).items()},
        }


def rewrite_settings(model: nn.Module) -> None:
    """Let ``save_pretrained`` write the configuration that the model has now."""
    written = getattr(getattr(model, "config", None), "quantization_config", None)
    if isinstance(written, dict):
        written["sparsity"] = model.sparsity_config.to_dict()  # type: ignore[union-attr, operator]


def _leave_fast_path(model: nn.Module) -> None:
    """Keep torch's fused encoder, which reads dense weights past their layers, out of the way."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0


def _refuse_adapters(model: nn.Module) -> None:
    """PEFT writes to the dense weights under its adapters, whose own would become sparse, too."""
    if any(hasattr(module, "peft_config") for module in model.modules()):
        raise ValueError(
            "the model has adapters (PEFT): put them into its weights first (merge_and_unload)"
        )


def _refuse_meta(findings: list[Finding]) -> None:
    for finding in findings:
        if finding.module.weight.device.type == "meta":
            raise ValueError(f"{finding.name} has no data (meta device): load the weights first")


def _refuse_hooks(findings: list[Finding]) -> None:
    """Hooks would go with the layer that they are on."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    for finding in findings:
        if any(getattr(finding.module, kind) for kind in kinds):
            raise ValueError(
                f"{finding.name} has a hook, which would be lost with the dense layer: remove it "
                "and register it again afterwards, or leave the layer dense with exclude"
            )


def _settle_start(model: nn.Module, config: SparsityConfig) -> SparsityConfig:
    """Decide what ``weight_init='auto'`` means here; kept weights call for their largest links."""
    if config.weight_init != "auto":
        return config
    if not getattr(model, "name_or_path", ""):  # set by from_pretrained
        return dataclasses.replace(config, weight_init="xavier")
    return dataclasses.replace(config, weight_init="keep", initial=config.initial or "magnitude")


def _make_sparse(
    finding: Finding, n_links: int, config: SparsityConfig, seen: LayerInputs | None
) -> SparseLinear:
    """Draw the links and weights of one layer."""
    dense = finding.module
    out_features, in_features = finding.shape
    weight: Tensor = dense.weight.t() if isinstance(dense, Conv1D) else dense.weight  # type: ignore[assignment]
    generator = generator_for("cpu", config.seed, "initial", finding.name)
    inputs = None if seen is None else seen.samples
    start = config.input_initial if seen is not None and seen.raw else None
    site = Site(
        out_features, in_features, n_links, generator, weight.detach().float().cpu(), inputs
    )
    mask = initial.make(start or config.initial or "er").function(site)
    layer = SparseLinear(
        in_features,
        out_features,
        n_links,
        dense.bias is not None,
        kernel=config.kernel,
        dense_class=type(dense),
        device=weight.device,
        dtype=weight.dtype,
    )
    positions = structure.positions_of(mask).to(weight.device)
    if config.weight_init == "keep":
        values = weight.flatten()[positions]
    else:
        std = config.init_scale * _std(config.weight_init, n_links, out_features, in_features)
        values = torch.randn(n_links, generator=generator).mul_(std).to(weight)
    layer.set_links(positions, values)
    layer.values.requires_grad_(weight.requires_grad)
    if layer.bias is not None:
        layer.bias = dense.bias  # type: ignore[assignment]
    for parameter in layer.parameters():
        parameter._is_hf_initialized = True
    return layer.train(dense.training)


def _tie(model: nn.Module, chosen: list[Finding], made: dict[str, SparseLinear]) -> None:
    """Give tied layers the links of the first of them, with the weights drawn for their own."""
    for name, place in places(model, used_once(chosen), tied=True).items():
        if place.lead == name:
            continue
        positions = structure.positions_of(place.turned(made[place.lead].mask))
        made[name].set_links(positions, made[name].values)


def _std(weight_init: str, n_links: int, out_features: int, in_features: int) -> float:
    """Standard deviation of drawn weights, from the mean numbers of links a neuron has.

    ``swi``: sqrt(2 / fan_in), the paper's sparse weight initialisation. ``xavier``:
    sqrt(2 / (fan_in + fan_out)), Glorot and Bengio 2010.
    """
    fan_in, fan_out = n_links / out_features, n_links / in_features
    return math.sqrt(2 / fan_in) if weight_init == "swi" else math.sqrt(2 / (fan_in + fan_out))


def _make_dense(layer: SparseLinear) -> nn.Module:
    weight = layer.to_dense()
    with torch.device("meta"):  # no memory, no random numbers
        if layer.dense_class is Conv1D:
            dense: nn.Module = Conv1D(layer.out_features, layer.in_features)
            weight = weight.t().contiguous()
        else:
            dense = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    dense.weight = nn.Parameter(weight, requires_grad=layer.values.requires_grad)
    if layer.bias is not None:
        dense.bias = layer.bias
    return dense.train(layer.training)
