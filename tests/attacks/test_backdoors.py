"""The backdoors: which rows are stamped, what becomes of the update that they teach, and all attacks in a run."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import agrbench
from agrbench import Cell
from agrbench.clients.insider import Insider
from agrbench.clients.insider import forge as ask
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.results.record import curves
from tests.helpers import oracles
from tests.helpers import oracles_attacks as slow
from tests.helpers.forging import forge, images, poison, table, trigger
from tests.helpers.oracles import Array
from tests.helpers.updates import EXACT, FORMS, Form
from tests.helpers.updates import normal32 as normal

REGISTRY = Registry(())
PARTLY = ["badnets", "neurotoxin", "dba"]  # stamp a share of the shard in place
ALL = [*PARTLY, "model_replacement"]


def same(a: Examples, b: Examples) -> bool:
    return torch.equal(a.features, b.features) and torch.equal(a.labels, b.labels) and a.classes == b.classes


def whole(attack: str, features: Array) -> Array:
    """The whole trigger, by the oracles."""
    return slow.bars(features, range(4)) if attack == "dba" else slow.square(features)


def part(attack: str, features: Array, attacker: int) -> Array:
    """What one attacker stamps, by the oracles."""
    return slow.bars(features, [attacker % 4]) if attack == "dba" else slow.square(features)


# ---------------------------------------------------------------- triggers


@pytest.mark.parametrize("attack", ALL)
@pytest.mark.parametrize("shard", [table(5, 11), images(3, 2, 6), images(3, 1, 19)], ids=["table", "small", "large"])
@pytest.mark.parametrize("target", [0, 2])
def test_trigger_stamps_the_whole_mark_on_copies_of_all_labelled_as_the_target(
    attack: str, shard: Examples, target: int
) -> None:
    before = shard.features.clone(), shard.labels.clone()
    stamped = trigger(f"{attack}(target={target})", shard)
    assert (stamped.features.numpy() == whole(attack, shard.features.numpy())).all()
    assert stamped.labels.tolist() == [target] * len(shard.labels)
    assert (stamped.classes, stamped.features.dtype) == (shard.classes, shard.features.dtype)
    assert torch.equal(shard.features, before[0])
    assert torch.equal(shard.labels, before[1])


@pytest.mark.oracle("dba")
@pytest.mark.parametrize(
    ("size", "lit"),
    [((4, 4), [0, 3]), ((4, 7), [0, 3]), ((6, 8), [0, 1, 4, 5]), ((28, 28), [0, 1, 2, 3, 6, 7, 8, 9]),
     ((32, 40), [0, 1, 2, 3, 6, 7, 8, 9])],
)  # fmt: skip
def test_dba_lights_four_bars_in_rows_0_and_3(size: tuple[int, int], lit: list[int]) -> None:
    dark = Examples(torch.zeros(2, 3, *size), torch.ones(2, dtype=torch.long), 2)
    expected = torch.zeros(2, 3, *size)
    for row in (0, 3):
        expected[:, :, row, lit] = 1.0
    assert torch.equal(trigger("dba", dark).features, expected)
    parts = [poison("dba(share=1.0)", dark, 0, attacker).features for attacker in range(4)]
    assert torch.equal(torch.stack(parts).sum(0), expected)  # no pixel is of two parts
    half = [(0, lit[: len(lit) // 2]), (0, lit[len(lit) // 2 :]), (3, lit[: len(lit) // 2]), (3, lit[len(lit) // 2 :])]
    for (row, columns), stamped in zip(half, parts, strict=True):
        assert stamped[0, 0].nonzero().tolist() == [[row, column] for column in columns]


@pytest.mark.parametrize(
    ("attack", "shape"),
    [("dba", (10,)), ("dba", (5, 12)), ("dba", (1, 3, 9)), ("dba", (1, 9, 3)), ("dba", (2, 1, 9, 9)),
     *((attack, shape) for attack in ("badnets", "neurotoxin", "model_replacement") for shape in [(7,), (5, 12)])],
)  # fmt: skip
def test_data_without_room_for_the_mark_are_refused(attack: str, shape: tuple[int, ...]) -> None:
    """A backdoor without a mark is a silent no-attack."""
    shard = Examples(torch.rand(3, *shape), torch.zeros(3, dtype=torch.long), 2)
    wanted = r"\b(11|4)\b" if attack == "dba" else "mark|columns|square"
    with pytest.raises(AgrbenchError, match=wanted):
        trigger(attack, shard)
    with pytest.raises(AgrbenchError, match=wanted):
        poison(attack, shard)


# ---------------------------------------------------------------- poisoned shards


@pytest.mark.oracle(*PARTLY)
@pytest.mark.parametrize("attack", PARTLY)
@given(st.integers(1, 30), st.sampled_from([0.01, 0.1, 0.5, 0.7, 1.0]), st.integers(0, 9), st.integers(0, 9))
def test_a_share_of_the_rows_is_stamped_in_place_and_all_others_are_unchanged(
    attack: str, rows: int, share: float, seed: int, attacker: int
) -> None:
    for shard in (table(rows), images(rows, 1, 5)):
        features, labels = shard.features.clone(), shard.labels.clone()
        poisoned = poison(f"{attack}(share={share}, target=2)", shard, seed, attacker)
        assert torch.equal(shard.features, features)
        assert torch.equal(shard.labels, labels)
        assert poisoned.features.shape == features.shape
        assert (poisoned.features.dtype, poisoned.classes) == (features.dtype, shard.classes)
        changed = (poisoned.features != features).flatten(1).any(1)
        assert int(changed.sum()) == slow.stamped_count(share, rows)
        marked = part(attack, features[changed].numpy(), attacker)
        assert (poisoned.features[changed].numpy() == marked).all()
        assert (poisoned.labels[changed] == 2).all()
        assert torch.equal(poisoned.labels[~changed], labels[~changed])


@pytest.mark.trap("badnets", "dba", "neurotoxin")
@pytest.mark.parametrize("attack", PARTLY)
def test_stamped_rows_are_drawn_at_random_by_the_generator_given(attack: str) -> None:
    shard, counts = table(6), np.zeros(6)
    for seed in range(400):
        counts += (poison(attack, shard, seed).features != shard.features).any(1).numpy()
    # 200 expected of each, with a deviation of 10: five of them.
    assert (np.abs(counts - 200) < 50).all()
    assert same(poison(attack, shard, 3), poison(attack, shard, 3))


@pytest.mark.parametrize("attack", PARTLY)
@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_share_that_is_none_or_more_than_all_is_refused(attack: str, share: float) -> None:
    with pytest.raises(AgrbenchError, match="share"):
        poison(f"{attack}(share={share})", table())


@pytest.mark.parametrize("attack", ["badnets", "dba", "neurotoxin", "model_replacement", "scaling"])
@pytest.mark.parametrize("target", [-1, 5])
def test_target_that_is_no_class_is_refused_with_those_there_are(attack: str, target: int) -> None:
    with pytest.raises(AgrbenchError, match="0 to 4"):
        poison(f"{attack}(target={target})", table())


@pytest.mark.trap("model_replacement")
@pytest.mark.parametrize("shard", [table(7), images(6)], ids=["table", "images"])
@pytest.mark.parametrize("target", [0, 2])
def test_model_replacement_poisons_with_exactly_what_scaling_does(shard: Examples, target: int) -> None:
    for seed in range(3):
        ours, theirs = (poison(f"{name}(target={target})", shard, seed) for name in ("model_replacement", "scaling"))
        assert same(ours, theirs)
        assert len(ours.labels) == 2 * len(shard.labels)


# ---------------------------------------------------------------- what is sent


@pytest.mark.oracle("badnets", "dba")
@pytest.mark.parametrize("attack", ["badnets", "dba", "neurotoxin(top=0.0)", "neurotoxin"])
@given(oracles.updates(), st.integers(1, 5), FORMS)
def test_poisoned_update_is_sent_as_it_is(attack: str, poisoned: Array, honest: int, form: Form) -> None:
    width = poisoned.shape[1]
    previous = np.zeros(width) if attack == "neurotoxin" else normal(1, width)[0]
    rows = forge(attack, normal(honest, width), len(poisoned), form, poisoned=poisoned, previous=previous)
    assert (rows == poisoned).all()


@pytest.mark.oracle("model_replacement")
@given(oracles.updates(), st.integers(1, 9), st.sampled_from([0.3, 1.0, 7.0, 50.0]), FORMS)
def test_model_replacement_sends_n_over_eta_times_each_poisoned_row(
    poisoned: Array, honest: int, eta: float, form: Form
) -> None:
    n = honest + len(poisoned)
    rows = forge(
        f"model_replacement(eta={eta})", normal(honest, poisoned.shape[1]), len(poisoned), form, poisoned=poisoned
    )
    # A quotient and a product, each rounded once in float64 or, with its factor, to the form.
    assert (np.abs(rows - n / eta * poisoned) <= 4 * np.finfo(form[1]).eps * n / eta * np.abs(poisoned)).all()


@pytest.mark.trap("model_replacement")
@pytest.mark.parametrize(("honest", "malicious"), [(6, 2), (1, 1), (5, 1), (3, 9)])
def test_model_replacement_multiplies_by_all_clients_and_not_by_their_number_over_the_malicious(
    honest: int, malicious: int
) -> None:
    rows = forge("model_replacement", np.ones((honest, 2)), malicious, poisoned=np.ones((malicious, 2)), byzantine=1)
    assert (rows == honest + malicious).all()


@given(oracles.updates((1, 1)), st.integers(1, 12))
def test_one_attacker_replaces_the_mean_of_updates_that_do_not_move(poisoned: Array, honest: int) -> None:
    still = np.zeros((honest, poisoned.shape[1]))
    sent = forge("model_replacement", still, 1, poisoned=poisoned)
    step = agrbench.aggregate(np.concatenate([still, sent]), "fedavg", 1)
    # One product, and a mean with a weight that is rounded itself.
    assert step == pytest.approx(poisoned[0], rel=1e-14)


@pytest.mark.trap("model_replacement")
@pytest.mark.parametrize("first", [1, 10])
@pytest.mark.parametrize(
    ("options", "shots"),
    [("eta=2.0", {0, 1, 2, 3}), ("rounds='every', eta=2.0", {0, 1, 2, 3}), ("rounds='first', eta=2.0", {0})],
)
def test_model_replacement_shoots_in_every_round_or_in_the_first_attacked_one(
    first: int, options: str, shots: set[int]
) -> None:
    attack, memory = REGISTRY.attack(f"model_replacement({options})"), dict[str, Any]()
    honest = torch.from_numpy(normal(4, 3))
    for k in range(4):
        clean, poisoned = (torch.from_numpy(normal(2, 3, seed + k)) for seed in (10, 20))
        insider = Insider(
            malicious=2, clients=6, byzantine=2, layout=None, number=first + k, memory=memory,
            rng=generator(0, "attack", first + k), honest=honest.clone, clean=clean.clone, poisoned=poisoned.clone,
        )  # fmt: skip
        rows = ask(attack, insider, 3)
        assert torch.equal(rows, 3 * poisoned if k in shots else clean)


# ---------------------------------------------------------------- neurotoxin


@pytest.mark.oracle("neurotoxin")
@given(oracles.updates(), st.data(), st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.99]), FORMS)
def test_neurotoxin_spares_what_the_last_step_moved_most(
    poisoned: Array, data: st.DataObject, top: float, form: Form
) -> None:
    width = poisoned.shape[1]
    previous = data.draw(oracles.updates((1, 1), (width, width)), label="previous")[0]
    rows = forge(f"neurotoxin(top={top})", normal(2, width), len(poisoned), form, poisoned=poisoned, previous=previous)
    spared = slow.neurotoxin_masked(previous, top)
    expected = poisoned.copy()
    expected[:, spared] = 0
    assert (rows == expected).all()


@pytest.mark.peer("neurotoxin", of="the authors' code, restated")
@given(oracles.updates(), st.data(), st.sampled_from([0.0, 0.05, 0.3, 0.99]), FORMS)
def test_neurotoxin_may_spare_what_each_clients_own_clean_update_moved_most(
    poisoned: Array, data: st.DataObject, top: float, form: Form
) -> None:
    clean = data.draw(oracles.updates((len(poisoned),) * 2, (poisoned.shape[1],) * 2), label="clean")
    spec = f"neurotoxin(top={top},mask='clean')"
    rows = forge(spec, normal(2, poisoned.shape[1]), len(poisoned), form, poisoned=poisoned, clean=clean)
    expected = poisoned.copy()
    for row, own in zip(expected, clean, strict=True):
        row[slow.neurotoxin_masked(own, top)] = 0
    assert (rows == expected).all()


@pytest.mark.trap("neurotoxin")
@pytest.mark.parametrize(
    ("previous", "top", "spared"),
    [
        ([-5.0, 1.0, 2.0], 1 / 3, [0]),  # by size, not by sign
        ([-5.0, 1.0, 2.0], 2 / 3, [0, 2]),
        ([1.0, -2.0, 2.0, -2.0], 0.5, [1, 2]),  # of equals the earlier
        ([2.0] * 40, 0.05, [0, 1]),
        ([0.0] * 4, 0.5, []),  # before the first step nothing is worth sparing
        ([0.0, 3.0, 0.0, 0.0], 0.25, [1]),
        ([4.0, 3.0, 2.0, 1.0, 0.5], 0.1, []),  # halves are rounded to even
        ([4.0, 3.0, 2.0, 1.0, 0.5], 0.3, [0, 1]),
    ],
)
def test_neurotoxin_sets_the_top_of_absolute_values_to_0(previous: list[float], top: float, spared: list[int]) -> None:
    width = len(previous)
    poisoned = 1 + np.arange(2.0 * width).reshape(2, width)
    rows = forge(f"neurotoxin(top={top})", normal(3, width), 2, poisoned=poisoned, previous=np.array(previous))
    assert [i for i in range(width) if (rows[:, i] == 0).any()] == spared
    kept = [i for i in range(width) if i not in spared]
    assert (rows[:, kept] == poisoned[:, kept]).all()


@pytest.mark.trap("neurotoxin")
def test_neurotoxin_spares_a_twentieth_by_default() -> None:
    rows = forge("neurotoxin", normal(2, 60), 1, poisoned=np.ones((1, 60)), previous=np.arange(-60.0, 0.0))
    assert np.flatnonzero(rows[0] == 0).tolist() == [0, 1, 2]


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("spec", ALL)
@pytest.mark.parametrize("form", [EXACT, ("torch", "float32")])
def test_backdoors_of_no_one_and_of_many_beside_one_honest_client(spec: str, form: Form) -> None:
    for malicious in (0, 1, 9):
        own = normal(malicious, 4, 3)
        rows = forge(spec, normal(1, 4), malicious, form, previous=normal(1, 4, 5)[0], clean=own, poisoned=own)
        assert np.isfinite(rows).all()
        assert (
            forge(spec, np.zeros((2, 4)), malicious, previous=np.zeros(4), poisoned=np.zeros((malicious, 4))) == 0
        ).all()


@pytest.mark.parametrize(("spec", "keyword"), [*((spec, "poisoned") for spec in ALL), ("neurotoxin", "previous")])
def test_missing_update_is_named_by_the_keyword_to_pass(spec: str, keyword: str) -> None:
    given_rows: dict[str, Any] = {"clean": np.ones((2, 4)), "poisoned": np.ones((2, 4)), "previous": np.ones(4)}
    del given_rows[keyword]
    with pytest.raises(AgrbenchError, match=f"pass {keyword}="):
        agrbench.forge(spec, normal(3, 4), 2, **given_rows)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        *((f"model_replacement(eta={eta})", "eta") for eta in (0.0, -1.0)),
        ("model_replacement(rounds='last')", "'every'.*'first'"),
        *((f"neurotoxin(top={top})", "top") for top in (-0.01, 1.0, 1.5)),
    ],
)
def test_settings_that_mean_nothing_are_refused(spec: str, named: str) -> None:
    with pytest.raises(AgrbenchError, match=named):
        forge(spec, normal(3, 4), 2, previous=normal(1, 4)[0], clean=normal(2, 4), poisoned=normal(2, 4))


def largest(defense: str, clients: int) -> int:
    """The most malicious clients for which a defense is defined, of whom at least one is honest."""
    for f in range(clients - 1, 0, -1):
        try:
            REGISTRY.stack(defense).check(clients, f)
        except Inapplicable:
            continue
        return f
    return 0


@pytest.mark.parametrize("attack", ["min_sum", "adaptive", *ALL])
@pytest.mark.parametrize("defense", ["fedavg", "krum", "cosden"])
def test_a_run_goes_through_for_no_one_and_one_and_as_many_as_the_defense_allows(attack: str, defense: str) -> None:
    settings: dict[str, Any] = {"clients": 10, "rounds": 12, "start": 10}
    most = largest(defense, 10)
    assert most >= 3
    for malicious in (0, 1, most):
        ran = agrbench.run(Cell("digits", defense, attack, malicious=malicious, **settings))
        assert ran["status"] == "done"
        assert all(math.isfinite(loss) for loss in ran["loss"])
        measured = ran["success"] is not None and ran["success"][-1] is not None
        assert measured == (attack in ALL and malicious > 0)
    alone = {name: agrbench.run(Cell("digits", defense, name, malicious=0, **settings)) for name in (attack, "none")}
    assert {name: value for name, value in curves(alone[attack]).items() if "success" not in name} == {
        name: value for name, value in curves(alone["none"]).items() if "success" not in name
    }


@pytest.mark.parametrize("attack", REGISTRY.names("attack"))
def test_every_attack_runs_against_an_amplified_rule_at_no_one_and_one_and_the_most_allowed(attack: str) -> None:
    for malicious in (0, 1, largest("amp+cosden", 10)):
        cell = Cell("digits", "amp+cosden", attack, clients=10, malicious=malicious, rounds=12, start=10)
        ran = agrbench.run(cell)
        assert ran["status"] == "done"
        assert all(math.isfinite(loss) for loss in ran["loss"])
