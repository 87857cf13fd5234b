"""The native kernel where there is no memory for its buffers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from native_cases import needs_binary

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 400_000
# What a call reads and writes is small, or there before memory ends; its buffers are not.
PROGRAM = """
import resource, sys, torch
from hf_chts.layers.kernels import native, native_attention
torch.set_num_threads(1)
width = {width}
crow, col = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([7], dtype=torch.int32)
index = native.build_index(crow, col, 1, width)
values = torch.ones(1, requires_grad=True)
x = torch.ones(1, width).expand({tokens}, width)
keys = torch.ones(1, 1, 1, 1).expand(10 * width, 1, 1, 1)
places, query = torch.zeros(1, 1, dtype=torch.int32), torch.ones(1, 1, 1)
calls = {{
    "forward": lambda: native.linear(x, values, None, index, 1, width),
    "backward": lambda: native._backward(
        torch.ones({tokens}, 1), x, values, index[2], False, True, False
    ),
    "attention": lambda: native_attention.attend(query, keys, keys, places, None, 1.0),
}}
call = calls["{name}"]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**20, hard))
try:
    call()
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
print(float(call().sum() if "{name}" != "backward" else call()[1].sum()))
"""


@needs_binary
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited Linux's way")
@pytest.mark.parametrize(
    ("name", "tokens", "result"),
    [("forward", 64, 64), ("forward", 8, 8), ("backward", 64, 64), ("attention", 1, 1)],
)
def test_no_memory_is_an_error_and_not_the_end_of_the_process(name, tokens, result):
    program = PROGRAM.format(width=WIDTH, name=name, tokens=tokens)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    said, afterwards = ran.stdout.splitlines()
    assert "found no memory for its buffers" in said
    assert float(afterwards) == pytest.approx(result, rel=0.05)  # millions of float32 summed
