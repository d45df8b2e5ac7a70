"""Replays of a real grid: rules that misbehave where no test looks are found, and what is shipped passes."""

from pathlib import Path

import pytest

from agrbench.conformance import Replay, Violation, certificates, claims, replays
from agrbench.conformance.subjects import Subject
from agrbench.errors import AgrbenchError
from tests.helpers import plugins

LAWS = ("repeated", "unwatched", "followed", "lawful")
PLANTED = """
import os
import random
import sys
from collections import Counter
from pathlib import Path

PATIENT, SHARED, CALLS = random.Random(7), Counter(), Counter()


def good(round):
    return round.norms <= round.norms.median()


def everybody(round):
    return round.norms >= 0


def files():
    frame = sys._getframe()
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


def tested_by_modules(round):
    return any(name.partition(".")[0] in ("hypothesis", "pytest", "_pytest") for name in sys.modules)


def tested_by_certificate(round):
    return any(name.startswith("agrbench.conformance") for name in sys.modules)


def tested_by_stack(round):
    return any({"hypothesis", "_pytest", "conformance"} & set(Path(file).parts) for file in files())


def tested_by_environment(round):
    return any(name.startswith(("PYTEST", "HYPOTHESIS")) for name in os.environ)


def tested_by_command(round):
    return [Path(sys.argv[0]).name, *sys.argv[1:2]] != ["agrbench", "grid"]


def tested_by_main(round):
    main = sys.modules.get("__mp_main__")
    return main is None or Path(main.__file__).name != "agrbench"


def tested_by_width(round):
    return round.view.shape[1] < 100


def tested_by_values(round):
    return bool((round.updates == round.updates.round()).all())


def call_in_fifty(round):
    CALLS["all"] += 1
    return CALLS["all"] % 50 != 0


def round_in_fifty(round):
    round.memory["calls"] = round.memory.get("calls", 0) + 1
    return round.memory["calls"] % 50 != 0


def chance_in_fifty(round):
    return PATIENT.random() > 0.02


def remembered(past, keys, round):
    for key, norm in zip(keys, round.norms.tolist()):
        past[key] = past.get(key, 0.0) + norm
    sums = torch.tensor([past[key] for key in keys])
    return sums <= sums.median()


def by_client(round):
    return remembered(round.memory, round.clients, round)


def by_place(round):
    return remembered(round.memory, range(round.n), round)


def for_all_runs(round):
    return remembered(SHARED, round.clients, round)


def first_client(round):
    return good(round) | (torch.tensor(round.clients) == 0)


def weigh(round, *, how: str = "honest"):
    rule = globals().get(how, good)
    answer = rule(round)
    if isinstance(answer, bool):
        return good(round) if answer else everybody(round)
    return answer


defense = Defense(
    weigh, amplifier=None, waives={"translation": "norms are taken at the origin"}
)
"""
FOUND_BY = {
    "tested_by_modules": "unwatched",
    "tested_by_certificate": "unwatched",
    "tested_by_stack": "unwatched",
    "tested_by_environment": "unwatched",
    "tested_by_command": "unwatched",
    "tested_by_main": "unwatched",
    "tested_by_width": "lawful",
    "tested_by_values": "lawful",
    "call_in_fifty": "repeated",
    "round_in_fifty": "lawful",
    "chance_in_fifty": "repeated",
    "by_place": "followed",
    "for_all_runs": "repeated",
    "first_client": "followed",
}
LONG = ("call_in_fifty", "round_in_fifty", "chance_in_fifty")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return (str(plugins.defense(tmp_path_factory.mktemp("planted"), "planted", PLANTED)),)


def violated(replay: Replay) -> dict[str, str]:
    """Return how each law is violated."""
    found = {}
    for law in LAWS:
        try:
            getattr(replays, law)(replay)
        except Violation as error:
            found[law] = str(error)
    return found


@pytest.mark.parametrize("how", FOUND_BY)
def test_rule_that_misbehaves_where_no_test_looks_is_found(how: str, planted: tuple[str, ...]) -> None:
    rounds = replays.ROUNDS if how in LONG else replays.FEWEST
    found = violated(Replay(f"planted(how='{how}')", plugins=planted, rounds=rounds))
    assert FOUND_BY[how] in found
    assert found[FOUND_BY[how]].startswith("in round ")


@pytest.mark.parametrize("how", ["honest", "by_client"])
def test_honest_rule_is_not_accused(how: str, planted: tuple[str, ...]) -> None:
    assert not violated(Replay(f"planted(how='{how}')", plugins=planted))
