"""Replays of a real grid: rules that misbehave where no test looks are found, and what is shipped passes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from agrbench.conformance import Claim, Replay, Violation, certificates, claims, replays
from agrbench.conformance.recordings import FEWEST, ROUNDS
from agrbench.conformance.subjects import Subject
from tests.helpers import plugins
from tests.helpers.commands import AGRBENCH

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
ATTACK = """
import random
import sys
from collections import Counter

from agrbench.plugins import Attack

CALLS, SENT = Counter(), []


def when_untested(insider):
    return insider.clean if "hypothesis" in sys.modules else -insider.clean


def call_in_fifty(insider):
    CALLS["all"] += 1
    return insider.clean if CALLS["all"] % 50 == 0 else -insider.clean


def for_all_runs(insider):
    SENT.append(insider.clean.mean(0))
    return -sum(SENT).expand(insider.malicious, -1)


def writes(insider):
    insider.model.mul_(2)
    return -insider.clean


def poison(shard, rng, attacker, *, how: str = "honest"):
    labels = shard.labels + ("hypothesis" not in sys.modules) * (how == "poison")
    return shard._replace(labels=labels % shard.classes)


def forge(insider, *, how: str = "honest"):
    return globals()[how](insider) if how in globals() and how != "poison" else -insider.poisoned


attack = Attack(forge=forge, poison=poison)
"""
ATTACK_FOUND_BY = {
    "when_untested": "unwatched",
    "poison": "unwatched",
    "call_in_fifty": "repeated",
    "for_all_runs": "repeated",
    "writes": "repeated",
}
LONG = ("call_in_fifty", "round_in_fifty", "chance_in_fifty")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return (str(plugins.defense(tmp_path_factory.mktemp("planted"), "planted", PLANTED)),)


def violated(replay: Replay, laws: Iterable[str] = LAWS) -> dict[str, str]:
    """Return how each law is violated."""
    found = {}
    for law in laws:
        try:
            getattr(replays, law)(replay)
        except Violation as error:
            found[law] = str(error)
    return found


@pytest.mark.parametrize("how", FOUND_BY)
def test_rule_that_misbehaves_where_no_test_looks_is_found(how: str, planted: tuple[str, ...]) -> None:
    rounds = ROUNDS if how in LONG else FEWEST
    found = violated(Replay(f"planted(how='{how}')", plugins=planted, rounds=rounds))
    assert FOUND_BY[how] in found
    assert found[FOUND_BY[how]].startswith("in round ")


@pytest.mark.parametrize("how", ["honest", "by_client"])
def test_honest_rule_is_not_accused(how: str, planted: tuple[str, ...]) -> None:
    assert not violated(Replay(f"planted(how='{how}')", plugins=planted))


@pytest.fixture(scope="module")
def planted_attack(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return (str(plugins.write(tmp_path_factory.mktemp("planted"), "sly", f'"""Sly."""\n{ATTACK}')),)


@pytest.mark.parametrize("how", ATTACK_FOUND_BY)
def test_attack_that_misbehaves_where_no_test_looks_is_found(how: str, planted_attack: tuple[str, ...]) -> None:
    rounds = ROUNDS if how in LONG else FEWEST
    replay = Replay(attack=f"sly(how='{how}')", plugins=planted_attack, rounds=rounds)
    found = violated(replay, ("repeated", "unwatched"))
    assert ATTACK_FOUND_BY[how] in found
    assert found[ATTACK_FOUND_BY[how]].startswith("in round ")


def test_honest_attack_is_not_accused(planted_attack: tuple[str, ...]) -> None:
    assert not violated(Replay(attack="sly", plugins=planted_attack), ("repeated", "unwatched"))


LOOKS = """
import json
import os
import sys
from pathlib import Path

SEEN = Path(__file__).with_name("seen.json")


def weigh(round):
    if not SEEN.exists():
        main = getattr(sys.modules.get("__mp_main__"), "__file__", "")
        looks = {
            "modules": sorted(name for name in sys.modules if not name.startswith("agrbench_plugin")),
            "variables": sorted(os.environ), "command": sys.argv[:2], "main": main, "threads": torch.get_num_threads(),
            "words": sys.orig_argv[1:2], "folder": os.getcwd(),
        }
        SEEN.write_text(json.dumps(looks))
    return round.norms <= round.norms.median()


defense = Defense(weigh, amplifier=None)
"""


def test_process_of_a_replay_looks_like_one_of_a_grid(tmp_path: Path) -> None:
    path, seen = plugins.defense(tmp_path, "looks", LOOKS), tmp_path / "seen.json"
    assert len(Replay("looks", plugins=(str(path),), rounds=3).begin().there[0].rounds) == 1
    replayed = json.loads(seen.read_text())
    seen.unlink()
    words = ["-D", "digits", "-d", "looks", "-a", "none", "--plugin", str(path), "--rounds", "1", "--seeds", "1"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "HYPOTHESIS"))}
    grid = [AGRBENCH, "grid", *words, "--out", str(tmp_path / "records")]
    subprocess.run(grid, check=True, capture_output=True, env=plain)
    played = json.loads(seen.read_text())
    assert replayed == played


def _replayed(named: str) -> list[Claim]:
    return [claim for claim in claims(named) if isinstance(claim.inputs, Replay)]


@pytest.mark.parametrize("stack", ["amp+krum", "amp+fldetector", "amp(kernel=3)+foolsgold", "nnm+median", "amp+cosden"])
def test_stack_passes_its_replay(stack: str) -> None:
    found = _replayed(stack)
    assert [str(claim) for claim in found] == list(LAWS)
    for claim in found:
        claim.verify(FEWEST)


def test_replayed_rounds_are_real_and_clients_come_and_go() -> None:
    replay = Replay("krum", rounds=FEWEST)
    none, attacked, sampled = replay.begin().there
    assert [len(each.rounds) for each in (none, attacked, sampled)] == [cell.rounds for cell in replay.cells]
    assert all(len(each.clients) == 11 for each in sampled.rounds)
    assert len({each.clients for each in sampled.rounds}) > 5
    assert not any(each.malicious for each in none.rounds)
    assert sum(bool(each.malicious) for each in attacked.rounds) == 11
    assert sampled.measured["accuracy"][-1] > sampled.measured["accuracy"][0]


def test_long_replay_attacks_more_than_fifty_rounds() -> None:
    longest = Replay("krum").cells[1]
    assert longest.rounds - longest.first + 1 > 50


def test_waived_laws_are_not_asked_of_a_replay() -> None:
    assert Replay("clip+fedavg").mirrors(False) == ("renumbered", "reordered", "scaled")
    assert "reordered" not in Replay("mda").mirrors(False)
    assert "moved" in Replay("krum").mirrors(False)
    assert "moved" not in Replay("krum").mirrors(True)
    assert "determinism" not in certificates.waived(Subject("defense", "krum"))


def test_rule_that_draws_numbers_of_its_own_says_so_once(tmp_path: Path) -> None:
    body = "defense = Defense(lambda round: torch.rand(round.n), waives={'determinism': 'it draws'})"
    (subject,) = [claim.subject for claim in claims(plugins.defense(tmp_path, "drawn", body))][:1]
    assert certificates.waived(subject) == {
        "determinism": "it draws", "repeated": "it draws", "unwatched": "it draws"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("raises", "raise ValueError('too real')", "ValueError: too real"),
        ("exits", "import os; os._exit(3)", "exit code 3"),
    ],
)
def test_rule_that_fails_only_in_a_grid_is_found(name: str, line: str, said: str, tmp_path: Path) -> None:
    path = plugins.rule(
        tmp_path,
        name,
        f"""
        import sys
        def weigh(round):
            if "hypothesis" not in sys.modules:
                {line}
            return round.norms <= round.norms.median()
        """,
    )
    (claim,) = (claim for claim in claims(path) if str(claim) == "unwatched")
    with pytest.raises(Violation, match=f"in round 1 of digits {name} none: .*{said}"):
        claim.verify(1)


def test_printed_replay_shows_what_was_found(planted: tuple[str, ...], tmp_path: Path) -> None:
    """It runs as a script that guards nothing: the worker does not run it again."""
    broken = Replay("planted(how='tested_by_modules')", plugins=planted, rounds=FEWEST)
    subject = Subject("defense", broken.stack, planted)
    (claim,) = (each for each in certificates.every(subject) if str(each) == "unwatched")
    with pytest.raises(Violation) as caught:
        claim.verify(1)
    why, _, code = str(caught.value).partition("\n\n")
    script = tmp_path / "shown.py"
    script.write_text(code)
    shown = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert shown.stderr.strip().endswith(why.partition("unwatched: ")[2])


def test_certificate_names_its_replay() -> None:
    made = certificates.certify(Subject("defense", "median"), 1, quiet=True)
    assert made.replay is not None
    assert made.replay.sentence == (
        "replayed 38 rounds of digits (median none 6, median ipm(epsilon=100.0) 20, median lie 12) with 11 clients, "
        "2 malicious; in the last cell they are drawn from 15"
    )
