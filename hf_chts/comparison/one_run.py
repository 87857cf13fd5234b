"""The process of one run: ``hf-chts train``, which ends when the comparison that started it does.

Its standard input is a pipe that nobody writes to; it closes with the comparison's process, even
if that is killed. A run that went on by itself would be in the way of the next command.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("hf_chts", run_name="__main__")
