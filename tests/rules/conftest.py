import json
from pathlib import Path

import numpy as np
import pytest
import torch

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"


def _need(name):
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"reference vectors are not beside the repository: shared/vectors/{name}")
    return path


@pytest.fixture(scope="session")
def link_vectors():
    """Reference outputs of the authors' programs: one dict of tensors a case."""
    cases = {}
    with np.load(_need("link_vectors.npz")) as arrays:
        for key in arrays:
            case, name = key.split("/")
            cases.setdefault(case, {})[name] = torch.from_numpy(arrays[key])
    return cases


@pytest.fixture(scope="session")
def schedule_vectors():
    return json.loads(_need("schedules.json").read_text())


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
