"""A report of a run: one HTML page that opens anywhere, figures, and networks as files."""

from __future__ import annotations

try:
    from hf_chts.report.write import write_report
except ModuleNotFoundError as error:
    raise ImportError(
        f"a report needs the package {error.name}: pip install 'hf-chts[analysis]'"
    ) from error

__all__ = ["write_report"]
