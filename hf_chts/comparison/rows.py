"""The rows of the table: each method at each sparsity, over its seeds, against the baseline."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_chts.comparison import paper
from hf_chts.comparison.results import Comparison, RunResult
from hf_chts.comparison.significance import paired_bootstrap
from hf_chts.translation.data import load_pairs


@dataclass(frozen=True)
class Estimate:
    """A measure over seeds.

    Attributes:
        mean: Mean of the seeds.
        standard_error: Standard deviation (n - 1) over the root of n; None for one seed.
        n: Number of seeds.
    """

    mean: float
    standard_error: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """The estimate from one value a seed, at least one."""
        spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        return cls(statistics.fmean(values), spread, len(values))


@dataclass(frozen=True)
class Row:
    """A method at one sparsity.

    Attributes:
        method: The method, baseline or variant.
        sparsity: Share of inactive links at the end, 0 where no sparsity was asked for.
        runs: A run for each seed that was asked for, by rising seed.
        values: Measures by name over the seeds that are done.
        differences: Measures less the baseline's of the same seed, over the seeds that both have
            done; none for the baseline itself.
        p_values: p-values of the differences to the baseline, by score as in ``values``
            (``"bleu/TEST_SET"``, ``"chrf/TEST_SET"``); none for the baseline itself and where no
            seed is done by both.
        published_bleu: The paper's BLEU, or None.
    """

    method: str
    sparsity: float
    runs: list[RunResult]
    values: dict[str, Estimate]
    differences: dict[str, Estimate]
    p_values: dict[str, float]
    published_bleu: float | None

    @property
    def done(self) -> list[RunResult]:
        """Runs that came to their scores."""
        return [run for run in self.runs if run.state == "done"]

    @property
    def seeds(self) -> str:
        """How many seeds are done of how many, and what became of the others."""
        others = Counter(run.state for run in self.runs if run.state != "done")
        return ", ".join(
            [f"{len(self.done)} of {len(self.runs)}", *(f"{n} {s}" for s, n in others.items())]
        )


@dataclass(frozen=True)
class Findings:
    """All rows, and what has to stand beside them.

    Attributes:
        rows: First what is not sparse, then by rising sparsity.
        baseline: Name of the rows to compare with.
        task: The paper's task with the same data, or None.
        signatures: sacreBLEU's signatures by metric and of the paired bootstrap.
        gaps: What is missing, and why, a sentence each.
    """

    rows: list[Row]
    baseline: str
    task: paper.PaperTask | None
    signatures: dict[str, list[str]]
    gaps: list[str]


def findings(comparison: Comparison, baseline: str) -> Findings:
    """Sum up the runs that are done.

    Args:
        comparison: The runs.
        baseline: The method that others are compared with, at the same sparsity if it has one.

    Raises:
        ValueError: If the baseline is not among the methods.
    """
    methods = list(dict.fromkeys(method for method, _ in comparison.rows))
    if baseline not in methods:
        raise ValueError(
            f"the baseline {baseline!r} is not compared here: choose one of {', '.join(methods)}"
        )
    gaps: list[str] = []
    references = _references(comparison, gaps)
    task = paper.paper_task(comparison.recipe)
    signatures: dict[str, dict[str, None]] = {}
    rows = []
    for method, sparsity in comparison.rows:
        runs = comparison.of(method, sparsity)
        pairs = _pairs(_rivals(comparison, baseline, method, sparsity), runs)
        p_values: dict[str, float] = {}
        for test_set, lines in references.items():
            found = _compare(pairs, test_set, lines, gaps) if pairs else None
            if found is not None:
                p_values |= {f"{score}/{test_set}": p for score, p in found[0].items()}
                signatures.setdefault("paired_bootstrap", {}).update(dict.fromkeys(found[1]))
        known = task.bleu if task and sparsity == paper.sparsity_of(method) else {}
        values, differences = _estimates(runs), _differences(pairs)
        rows.append(Row(method, sparsity, runs, values, differences, p_values, known.get(method)))
        for name, text in ((n, t) for run in runs for n, t in run.signatures.items()):
            signatures.setdefault(name, {})[text] = None
    gaps += _run_gaps(comparison)
    named = {name: list(found) for name, found in signatures.items()}
    return Findings(rows, baseline, task, named, gaps)


def _estimates(runs: Sequence[RunResult]) -> dict[str, Estimate]:
    """Over the seeds that are done, or those of them where a measure is known."""
    done = [run.measures for run in runs if run.state == "done"]
    names = dict.fromkeys(name for measures in done for name in measures)
    return {name: Estimate.of([m[name] for m in done if name in m]) for name in names}


def _references(comparison: Comparison, gaps: list[str]) -> dict[str, list[str]]:
    """Reference translations of the test sets that can be read."""
    references = {}
    for name, source in comparison.recipe.data.test.items():
        try:
            references[name] = load_pairs(source).target
        except (OSError, ValueError, ImportError) as error:
            gaps.append(f"no p-values on {name}, for its references are missing: {error}")
    return references


def _rivals(
    comparison: Comparison, baseline: str, method: str, sparsity: float
) -> Sequence[RunResult]:
    """The baseline's runs for a row; none where it is the row, or which of them is open."""
    if method == baseline:
        return ()
    sparsities = [of for name, of in comparison.rows if name == baseline]
    if sparsity in sparsities:
        return comparison.of(baseline, sparsity)
    return comparison.of(baseline, sparsities[0]) if _unambiguous(sparsities, sparsity) else ()


def _unambiguous(baseline_at: Sequence[float], sparsity: float) -> bool:
    """Whether the baseline has one row only, and it or the other row has no sparsity."""
    return len(baseline_at) == 1 and (baseline_at[0] == 0.0 or sparsity == 0.0)


def _pairs(
    rivals: Sequence[RunResult], runs: Sequence[RunResult]
) -> list[tuple[RunResult, RunResult]]:
    """The baseline's run and the row's of each seed that both have done."""
    others = {run.cell.seed: run for run in rivals if run.state == "done"}
    return [(others[r.cell.seed], r) for r in runs if r.state == "done" and r.cell.seed in others]


def _differences(pairs: Sequence[tuple[RunResult, RunResult]]) -> dict[str, Estimate]:
    """Of each measure that is known of both runs of a pair, over the pairs."""
    known = [(rival.measures, run.measures) for rival, run in pairs]
    names = dict.fromkeys(name for theirs, ours in known for name in ours if name in theirs)
    return {
        name: Estimate.of([b[name] - a[name] for a, b in known if name in a and name in b])
        for name in names
    }


def _compare(
    pairs: Sequence[tuple[RunResult, RunResult]],
    test_set: str,
    references: Sequence[str],
    gaps: list[str],
) -> tuple[dict[str, float], list[str]] | None:
    """The p-values on a test set over the seeds that both have done, and their signatures."""
    signature = pairs[0][1].signatures["bleu"]
    try:
        baseline = [rival.translations(test_set) for rival, _ in pairs]
        system = [run.translations(test_set) for _, run in pairs]
        p_values, signatures = paired_bootstrap(baseline, system, references, signature)
    except (OSError, ValueError) as error:
        gaps.append(f"no p-value of {pairs[0][1].cell.name} and its seeds on {test_set}: {error}")
        return None
    return p_values, list(signatures.values())


def _run_gaps(comparison: Comparison) -> list[str]:
    """What became of runs that are not done, and what of the others is not known."""
    runs = comparison.runs.values()
    missing = [run.cell.name for run in runs if run.state == "missing"]
    told = [run for run in runs if run.reason]
    gaps = [f"{run.cell.name} is {run.state}: {run.reason}" for run in told if run.state != "done"]
    reasons: Mapping[str, list[str]] = {
        reason: [run.cell.name for run in told if run.state == "done" and run.reason == reason]
        for reason in dict.fromkeys(run.reason for run in told if run.state == "done")
    }
    gaps += [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return gaps + ([f"not begun: {', '.join(missing)}"] if missing else [])
