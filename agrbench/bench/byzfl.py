"""Compare with the library byzfl: which of its rules corresponds to which of ours, and what differs by definition."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from agrbench import specs

Rule = Callable[[Tensor], Any]
"""`(clients, parameters) -> (parameters,)`."""

RULES: dict[str, Callable[[Any, int], Rule]] = {
    "fedavg": lambda byzfl, f: byzfl.Average(),
    "krum": lambda byzfl, f: byzfl.Krum(f),
    "multi_krum": lambda byzfl, f: byzfl.MultiKrum(f),
    "median": lambda byzfl, f: byzfl.Median(),
    "trimmed_mean": lambda byzfl, f: byzfl.TrMean(f),
    "meamed": lambda byzfl, f: byzfl.Meamed(f),
    "geometric_median": lambda byzfl, f: byzfl.GeometricMedian(),
    "centered_clipping": lambda byzfl, f: byzfl.CenteredClipping(),
    "monna": lambda byzfl, f: byzfl.MoNNA(f),
    "caf": lambda byzfl, f: byzfl.CAF(f),
}
STAGES: dict[str, Callable[[Any, int], Rule]] = {"nnm": lambda byzfl, f: byzfl.NNM(f)}
OTHERWISE = {
    "krum": "its Krum sums over n - f - 1 neighbours, ours over n - f - 2",
    "multi_krum": "its MultiKrum sums over n - f - 1 neighbours, ours over n - f - 2",
    "geometric_median": "its GeometricMedian takes three steps from zero, ours steps until it stands still",
    "centered_clipping": "its CenteredClipping clips at 100 around its own last answer, ours at the median distance",
    "monna": "its MoNNA keeps what is near to a client's row, ours to an update that the server trains first",
    "caf": "its CAF takes one power step for an eigenvector, ours finds it",
}  # fmt: skip
UNTIMED = {
    "mda": "its MDA tries every subset",
    "smea": "its SMEA tries every subset",
    "clip": "its Clipping writes into its caller's updates",
    "arc": "its ARC writes into its caller's updates",
    "bucketing": "its Bucketing draws from the global random state",
}


def rule(byzfl: Any, spec: str, byzantine: int, columns: Iterable[str]) -> Rule | None:
    """Make byzfl's counterpart of a stack, ignoring the stages named in `columns`; return `None` if it has none."""
    *stages, last = (term.name for term in specs.parse(spec))
    stages = [stage for stage in stages if stage not in set(columns)]
    if last not in RULES or not set(stages) <= set(STAGES):
        return None
    parts = [STAGES[stage](byzfl, byzantine) for stage in stages] + [RULES[last](byzfl, byzantine)]

    def aggregate(rows: Tensor) -> Any:
        answer: Any = rows
        for part in parts:
            answer = part(answer)
        return answer

    return aggregate


def remarks(stacks: Iterable[str]) -> list[str]:
    """Explain byzfl's column for these stacks: what the ratio is, which rules differ, and which are not timed."""
    names = dict.fromkeys(term.name for spec in stacks for term in specs.parse(spec))
    found = [
        "byzfl / ours: its time over ours on the same tensor, with its defaults and f, in the same turns; it has no "
        "amplified form, so that its base rule stands beside both."
    ]
    for title, reasons in (("differs by definition (docs/differences.md)", OTHERWISE), ("is not timed", UNTIMED)):
        known = [reasons[name] for name in names if name in reasons]
        found += [f"byzfl {title}: {'; '.join(known)}."] if known else []
    return found
