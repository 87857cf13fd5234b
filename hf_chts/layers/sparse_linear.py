"""A linear layer that stores its active links only."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hf_chts.layers import structure
from hf_chts.layers.capture import Capture
from hf_chts.layers.coactivation import CoActivation
from hf_chts.layers.kernels import dense, pick_kernel


class SparseLinear(nn.Module):
    """``y = x W^T + b`` with a sparse ``W``, kept as link weights and CSR indices.

    Attributes:
        values: Weights of the active links, row by row, shape (n_links,); the only weight
            parameter, so gradients and optimizer state have its size, too.
        crow_indices: Start of each output neuron's links in ``values``, int32, shape (out + 1,).
        col_indices: Input neuron of each link, int16 (int32 beyond 32,768 inputs), (n_links,).
        bias: Bias of the output neurons, shape (out,), or None.
        dense_class: Class of the layer that stood here (``nn.Linear``, or GPT-2's ``Conv1D``).
        capture_dense_grad: While True, every backward adds the gradient of all links, active or
            not, to ``dense_grad``.
        dense_grad: Sum of those gradients in float32, shape (out, in), or None.
        capture_coactivation: While True, every backward adds the inputs and outputs of its tokens
            to ``coactivation``. Outputs are the layer's own, before any activation function.
        coactivation: How input and output neurons varied together over those tokens, or None.
        explored: Links that were ever active, one bit each, or None where nobody counts them.
        past_positions: Links that were removed, the latest last, int64, or None where historical
            weights are not kept.
        past_values: The weights they had, in the same order.
        resting: Whether the links of this layer have stopped to evolve (early stop).

    Raises:
        ValueError: If there is no input neuron or no output neuron.
    """

    values: nn.Parameter
    crow_indices: Tensor
    col_indices: Tensor
    explored: Tensor | None
    past_positions: Tensor | None
    past_values: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_links: int,
        bias: bool = True,
        *,
        kernel: str = "auto",
        dense_class: type[nn.Module] = nn.Linear,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise ValueError(f"a sparse layer of {out_features} x {in_features} holds no link")
        self.in_features, self.out_features = in_features, out_features
        self.kernel, self.dense_class = kernel, dense_class
        self.values = nn.Parameter(torch.zeros(n_links, device=device, dtype=dtype))
        crow = torch.zeros(out_features + 1, dtype=torch.int32, device=device)
        self.register_buffer("crow_indices", crow)
        narrow = structure.column_dtype(in_features)
        self.register_buffer("col_indices", torch.zeros(n_links, dtype=narrow, device=device))
        empty = torch.zeros(out_features, device=device, dtype=dtype)
        self.bias = nn.Parameter(empty) if bias else None
        for memory in ("explored", "past_positions", "past_values"):
            self.register_buffer(memory, None, persistent=False)
        self.resting = False
        self.capture_dense_grad = False
        self.dense_grad: Tensor | None = None
        self.capture_coactivation = False
        self.coactivation: CoActivation | None = None
        self._compute: ModuleType = dense
        self._index: tuple[Tensor, ...] = ()
        self._unfit = ""  # why the kernel cannot take the weights

    @property
    def nnz(self) -> int:
        """Number of active links."""
        return self.values.numel()

    @property
    def density(self) -> float:
        """Share of links that are active, in [0, 1]."""
        return self.nnz / (self.in_features * self.out_features)

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """A stand-in of the right shape, type and device for code that asks for those.

        It takes no memory and is NaN everywhere, so that using it as numbers shows at once; the
        numbers are in :meth:`to_dense`.
        """
        stand_in = self.values.detach().new_full((), torch.nan)
        stand_in = stand_in.expand(self.out_features, self.in_features)
        stand_in._is_hf_initialized = True  # no init writes into it
        return stand_in

    @property
    def positions(self) -> Int[Tensor, " n_links"]:
        """Sorted flat positions ``o * in_features + i`` of the active links."""
        return structure.from_csr(self.crow_indices, self.col_indices, self.in_features)

    @property
    def mask(self) -> Bool[Tensor, "out in"]:
        """True at active links."""
        flat = torch.zeros(
            self.out_features * self.in_features, dtype=torch.bool, device=self.values.device
        )
        flat[self.positions] = True
        return flat.view(self.out_features, self.in_features)

    def scatter(self, link_data: Float[Tensor, " n_links"]) -> Float[Tensor, "out in"]:
        """Numbers that belong to the links, as a dense matrix with 0 at inactive links."""
        return dense.scatter(link_data, self.positions, (self.out_features, self.in_features))

    def to_dense(self) -> Float[Tensor, "out in"]:
        """The weight as a dense matrix, differentiable."""
        dense_weight: Tensor = self.scatter(self.values)
        return dense_weight

    @torch.no_grad()
    def set_links(
        self, positions: Int[Tensor, " n_links"], values: Float[Tensor, " n_links"]
    ) -> None:
        """Replace all links.

        The parameter object stays; its storage too while the number of links is the same.

        Args:
            positions: Sorted, distinct flat positions of the links.
            values: Their weights.

        Raises:
            ValueError: If the positions are not sound, or there is not one weight for each.
        """
        if positions.shape != values.shape:
            raise ValueError(f"{values.numel()} values for {positions.numel()} links")
        crow, col = structure.to_csr(positions, self.out_features, self.in_features)
        self.crow_indices, self.col_indices = crow, col
        if values.numel() == self.nnz:
            self.values.copy_(values)
        else:
            self._resize(values.to(self.values, copy=True))  # the caller's tensor stays its own
        self.rebuild_index()

    def _resize(self, values: Float[Tensor, " n_links"]) -> None:
        """Give the parameter another number of links."""
        # Autograd keeps what it knows of a parameter, its old size too, as long as any graph of
        # it lives (a loss that someone still holds); data of another type makes it forget.
        dtype = torch.float64 if values.dtype != torch.float64 else torch.float32
        self.values.grad = None
        self.values.data = values.new_empty(0, dtype=dtype)
        self.values.data = values
        torch.autograd.graph.increment_version(self.values)  # graphs of the old values are stale

    def rebuild_index(self) -> None:
        """Choose the kernel and let it prepare for the present links, if they are sound."""
        self._index, self._unfit = (), ""
        if self.values.is_meta or self.crow_indices.is_meta or self.what_is_wrong():
            return  # the links, or the rest of them, are still to come
        self._compute = pick_kernel(self.kernel, self.values)
        self._index = self._compute.build_index(
            self.crow_indices, self.col_indices, self.out_features, self.in_features
        )

    def what_is_wrong(self) -> str | None:
        """Why the indices cannot be used; None if they are sound."""
        if not self.values.is_floating_point():
            return f"weights must be floating-point numbers; got {self.values.dtype}"
        if self.values.shape != self.col_indices.shape:
            return f"{self.values.numel()} values for {self.col_indices.numel()} links"
        shape = (self.out_features, self.in_features)
        return structure.check_csr(self.crow_indices, self.col_indices, *shape)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Apply the layer; under autocast in its type, like ``nn.Linear``.

        Raises:
            RuntimeError: If the layer has no sound links, as before they are set or loaded.
            ValueError: If the kernel cannot take weights of this type, or on this device.
            TypeError: If ``x`` holds no real floating-point numbers.
        """
        if self._unfit:
            raise ValueError(self._unfit)
        if not self._index:
            raise RuntimeError(
                f"this layer of {self.out_features} x {self.in_features} has no sound links: set "
                "them with set_links, or load all of its tensors"
            )
        if not x.is_floating_point():  # results in its type would be cut to integers
            raise TypeError(f"a sparse layer takes floating-point numbers; got {x.dtype}")
        if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(x.device.type))
        captures = self.capture_dense_grad or self.capture_coactivation
        if captures and torch.is_grad_enabled():
            captured: Tensor = self._forward_capturing(x)
            return captured
        return self._multiply(x)

    def _multiply(self, x: Tensor) -> Tensor:
        y: Tensor = self._compute.linear(
            x, self.values, self.bias, self._index, self.out_features, self.in_features
        )
        return y

    @torch.compiler.disable
    def _forward_capturing(self, x: Tensor) -> Tensor:
        """Forward of the few steps whose backward also collects what rules read."""
        captured: Tensor = Capture.apply(x, self._multiply(x), self)
        return captured

    def _apply(self, fn: Any, recurse: bool = True) -> SparseLinear:
        """Follow a move to another device or type with the kernel's index.

        A kernel that cannot take the weights then says so in the forward pass: an error here would
        leave a model of which one part has moved and the rest has not.
        """
        super()._apply(fn, recurse)
        try:
            self.rebuild_index()
        except ValueError as error:
            self._unfit = str(error)
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take over the checkpoint's number of links, after checking its indices."""
        crow, col, values = (
            state_dict.get(prefix + name) for name in ("crow_indices", "col_indices", "values")
        )
        wrong = None
        if prefix + "weight" in state_dict:
            wrong = "the checkpoint holds a dense weight and no links; sparsify the dense model"
        elif crow is not None and col is not None:
            wrong = structure.check_csr(crow, col, self.out_features, self.in_features)
            if wrong is None and values is not None and values.shape != col.shape:
                wrong = f"{values.numel()} values for {col.numel()} links"
        if wrong is not None:
            error_msgs.append(f"{prefix.rstrip('.')}: {wrong}")
            return
        given = values if values is not None else col  # shards may split a layer
        if given is not None and given.numel() != self.nnz:
            self._resize(self.values.new_empty(given.numel()))
            self.col_indices = self.col_indices.new_empty(given.numel())
        rest = (local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.rebuild_index()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave the kernel and its index out: they are made again."""
        return {**self.__dict__, "_compute": None, "_index": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.rebuild_index()

    def extra_repr(self) -> str:
        """Shape, density and kernel, for ``print(model)``."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"links={self.nnz}, density={self.density:.4f}, bias={self.bias is not None}, "
            f"kernel={self.kernel}"
        )


def sparse_layers(model: nn.Module) -> dict[str, SparseLinear]:
    """The sparse layers of a model by qualified name, in the order of the model."""
    return {n: m for n, m in model.named_modules() if isinstance(m, SparseLinear)}
