"""Names of the package, and what the import of it waits for."""

import subprocess
import sys

import pytest

import hf_chts

PROGRAM = """
import sys
import hf_chts
print("transformers.trainer" in sys.modules)
print(hf_chts.SparseTrainer.__module__, "transformers.trainer" in sys.modules)
"""


def test_the_trainer_of_transformers_is_loaded_on_demand():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert ran.stdout.splitlines() == ["False", "hf_chts.trainer True"], ran.stderr


def test_every_name_is_there_and_listed():
    assert set(hf_chts.__all__) <= set(dir(hf_chts))
    for name in hf_chts.__all__:
        assert getattr(hf_chts, name).__name__ == name


def test_a_name_that_is_not_there_is_told():
    with pytest.raises(AttributeError, match="module 'hf_chts' has no attribute 'SparseTrainers'"):
        hf_chts.SparseTrainers  # noqa: B018
