"""How large a trained model is, beside the dense model it stands for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hf_chts.layers.sparse_linear import sparse_layers


@dataclass(frozen=True)
class Sizes:
    """Parameters in numbers, Adam's state and the weights' file in bytes.

    Attributes:
        parameters: Numbers in the model's parameters, shared ones once.
        linear_parameters: Those of them in link weights of sparse layers.
        optimizer_bytes: Two float32 moments for each trainable parameter.
        file_bytes: Weights on disk.
        dense_parameters: Likewise for the model with every sparse layer made dense.
        dense_linear_parameters: Likewise.
        dense_optimizer_bytes: Likewise.
        dense_file_bytes: Likewise, dense layers in float32.
    """

    parameters: int
    linear_parameters: int
    optimizer_bytes: int
    file_bytes: int
    dense_parameters: int
    dense_linear_parameters: int
    dense_optimizer_bytes: int
    dense_file_bytes: int

    @classmethod
    def of(cls, model: nn.Module, folder: Path) -> Sizes:
        """Measure a model and the folder it was saved to."""
        layers = sparse_layers(model).values()
        links = sum(layer.nnz for layer in layers)
        dense_links = sum(layer.in_features * layer.out_features for layer in layers)
        link_bytes = sum(
            tensor.numel() * tensor.element_size()
            for layer in layers
            for tensor in (layer.values, layer.crow_indices, layer.col_indices)
        )
        every = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        file_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return cls(
            parameters=every,
            linear_parameters=links,
            optimizer_bytes=8 * trained,
            file_bytes=file_bytes,
            dense_parameters=every - links + dense_links,
            dense_linear_parameters=dense_links,
            dense_optimizer_bytes=8 * (trained - links + dense_links),
            dense_file_bytes=file_bytes - link_bytes + 4 * dense_links,
        )

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Rows of a table: name, dense, sparse, ratio."""

        def row(name: str, dense: int, sparse: int, unit: str) -> tuple[str, str, str, str]:
            scale, ending = (1e6, " MB") if unit == "bytes" else (1, "")
            digits = ".2f" if unit == "bytes" else ",.0f"
            ratio = f"{sparse / dense:.3f}" if dense else "-"
            shown = (f"{number / scale:{digits}}{ending}" for number in (dense, sparse))
            return (name, *shown, ratio)  # type: ignore[return-value]

        return [
            row("parameters in linear layers made sparse", self.dense_linear_parameters,
                self.linear_parameters, "numbers"),
            row("parameters in all", self.dense_parameters, self.parameters, "numbers"),
            row("optimizer state (Adam)", self.dense_optimizer_bytes, self.optimizer_bytes,
                "bytes"),
            row("file of the weights", self.dense_file_bytes, self.file_bytes, "bytes"),
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The sizes as plain JSON data."""
        return asdict(self)
