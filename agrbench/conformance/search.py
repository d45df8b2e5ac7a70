"""Search for an input that violates a property and shrink it, by Hypothesis, in the same way every time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, assume, given, settings
from hypothesis.errors import Unsatisfiable

from agrbench import threads
from agrbench.conformance.cases import Silent, literal
from agrbench.conformance.strategies import Strategy
from agrbench.plugins.ambient import unguarded

PHASES = (Phase.generate, Phase.target, Phase.shrink)
PATIENCE = 400  # inputs tried to shrink a counterexample


@dataclass(frozen=True)
class Counterexample:
    """The smallest input found that violates a property, and how it does."""

    inputs: dict[str, Any]
    why: str


@unguarded()
@threads.using(1)  # inputs are tiny: a second thread would only cause waiting
def search(
    check: Callable[..., None], inputs: Strategy, examples: int, patience: int = PATIENCE
) -> Counterexample | None:
    """Try a property on `examples` inputs; return the smallest that violates it, or `None`."""
    found: list[Counterexample] = []
    tried = 0

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=PHASES, verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False, print_blob=False,
    )  # fmt: skip
    @given(inputs)
    def attempt(drawn: dict[str, Any]) -> None:
        nonlocal tried
        tried += bool(found)
        assume(tried <= patience)
        try:
            check(**copy.deepcopy(drawn))  # a plugin may overwrite its inputs
        except Silent:
            assume(False)
        except Exception as error:  # any exception of a plugin is a violation, with its message as the reason
            found.append(Counterexample(drawn, str(error) or type(error).__name__))
            raise

    try:
        attempt()
    except Unsatisfiable:
        return None
    except Exception:
        if not found:
            raise
    return min(found, key=lambda each: len(literal(list(each.inputs.values())))) if found else None
