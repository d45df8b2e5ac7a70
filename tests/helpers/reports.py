"""Records for a page: a small grid, a targeted attack, and a defense that is out of reach and has a hostile name."""

from __future__ import annotations

from collections.abc import Iterable

from agrbench.results.record import Record, failed
from tests.helpers.records import REGISTRY
from tests.helpers.triad import ATTACKS, DEFENSES, cell, everything, made

HOSTILE = '=<script>alert(1)</script>"><img src=x onerror=alert(2)>'
MARK = "</script><!--<script>"


def records(seeds: Iterable[int]) -> list[Record]:
    """Return finished runs on some seeds, and one that failed for a reason that would end the element of the data."""
    seeds = tuple(seeds)
    found = everything(seeds)
    for seed in seeds:
        for attack in ATTACKS:
            mine = {"cell": cell(HOSTILE, attack, seed).as_json(), "environment": {"cpu": MARK}}
            found.append(made("krum", attack, seed, **mine))
        for defense in DEFENSES:
            hits = {"success": [None, 0.2, 0.4], "success_untriggered": [None, 0.1, 0.1]}
            mine = {"cell": cell(defense, "scaling", seed).as_json()}
            found.append(made(defense, "label_flip", seed, **mine, **hits))
    reason = failed(cell("krum", "scaling", 0), REGISTRY, f"out of memory {MARK}")
    return [*found, reason | {"cell": cell(HOSTILE, "scaling", 0).as_json()}]
