"""Shapes and types of tensor code are checked while the tests run."""

from jaxtyping import install_import_hook

# Before the package's first import. Plain data (configurations, recipes) checks itself.
install_import_hook(
    [
        "hf_chts.rules",
        "hf_chts.layers.structure",
        "hf_chts.layers.sparse_linear",
        "hf_chts.layers.kernels.dense",
    ],
    "beartype.beartype",
)

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("untimed", deadline=None)  # machines are shared
settings.load_profile("untimed")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)
