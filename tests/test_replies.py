"""Replies become updates, and a step the next model: parameters, buffers, what a rule asks for, and what fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import agrbench
from agrbench.errors import AgrbenchError
from agrbench.replies import Arrays, Combined, Federation, Reply

SEED = 7  # of updates on which the two readings of a layout differ
ZERO = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32)}


def moved(arrays: Arrays, by: float) -> dict[str, Any]:
    """Return arrays of the same form, each entry moved."""
    return {name: array + by for name, array in arrays.items()}


def replies(*steps: float, of: Arrays = ZERO) -> list[Reply]:
    return [Reply(client, moved(of, step)) for client, step in enumerate(steps)]


def combined(spec: str, *steps: float, byzantine: int = 0, **options: Any) -> Combined:
    return Federation(spec, byzantine, **options).combine(ZERO, replies(*steps))


def test_buffers_are_combined_by_weight_and_counters_stay_the_servers() -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2))
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    sent = [
        {name: value + (step if value.dtype.kind == "f" else 7) for name, value in before.items()}
        for step in (1, 2, 30)
    ]
    for module in (model, None):  # with the module, and from the names alone
        federation = Federation("krum", 0, module=module)
        done = federation.combine(before, [Reply(client, arrays) for client, arrays in enumerate(sent)])
        (chosen,) = [client for client, weight in done.weights.items() if weight]
        assert chosen in (0, 1)
        for name, value in done.arrays.items():
            wanted = before[name] if name.endswith("num_batches_tracked") else sent[chosen][name]
            np.testing.assert_allclose(value, wanted, rtol=1e-6)
            assert value.dtype == before[name].dtype


def test_negative_or_large_weights_never_turn_a_variance_around() -> None:
    before = {"weight": np.zeros(2, np.float32), "running_var": np.ones(2, np.float32)}
    sent = [
        Reply(k, {"weight": np.full(2, v, np.float32), "running_var": np.full(2, v, np.float32)})
        for k, v in enumerate([2, 3, 7])
    ]
    done = Federation("median").combine(before, sent)
    assert done.arrays["weight"].tolist() == [3, 3]
    assert done.arrays["running_var"].tolist() == [3, 3]


def test_frozen_and_tied_parameters() -> None:
    model = nn.ModuleDict(
        {"one": nn.Linear(2, 2, bias=False), "two": nn.Linear(2, 2, bias=False), "frozen": nn.Linear(1, 1)}
    )
    model["two"].weight = model["one"].weight
    model["frozen"].requires_grad_(False)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    sent = [Reply(client, moved(before, step)) for client, step in enumerate((1.0, 2.0, 6.0))]
    done = Federation("median", module=model).combine(before, sent)
    for name in ("one.weight", "two.weight"):
        np.testing.assert_allclose(done.arrays[name], before[name] + 2, rtol=1e-6)
    assert np.array_equal(done.arrays["frozen.weight"], before["frozen.weight"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_models_of_every_float_type_and_of_tensors_keep_it(dtype: type) -> None:
    before: Arrays = {"w": np.zeros((2, 2), dtype), "b": torch.zeros(2)}
    done = Federation("median").combine(before, replies(1.0, 2.0, 3.0, of=before))
    assert done.arrays["w"].dtype == dtype
    assert done.arrays["w"].tolist() == [[2, 2], [2, 2]]
    assert isinstance(done.arrays["b"], Tensor)


def test_layers_are_read_as_torch_stores_them_unless_a_layout_is_passed() -> None:
    rows = np.stack([np.random.default_rng(SEED + client).normal(size=16).astype(np.float32) for client in range(7)])
    sent = [Reply(client, {"w": row[:12].reshape(3, 4), "b": row[12:]}) for client, row in enumerate(rows)]
    stored, listed = agrbench.Layout.of_stored([(3, 4), (4,)]), agrbench.Layout.of_shapes([(3, 4), (4,)])
    before = {"w": np.zeros((3, 4), np.float32), "b": np.zeros(4, np.float32)}
    picks = []
    for given, layout in ((None, stored), (listed, listed)):
        done = Federation("amp+krum", 2, layout=given).combine(before, sent)
        weights = agrbench.weigh(rows, "amp+krum", byzantine=2, layout=layout).weights
        assert isinstance(weights, Tensor)
        assert list(done.weights.values()) == weights.tolist()
        picks.append(done.weights)
    assert picks[0] != picks[1]


def test_the_bound_stays_when_replies_are_left_out() -> None:
    federation = Federation("krum", 2)
    sent = replies(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, float("nan"))
    done = federation.combine(ZERO, sent)
    assert done.skipped == "krum requires 2 * f + 2 < n, and here n=6, f=2"
    assert done.arrays is ZERO
    assert done.left_out == {6: "its update is not finite"}
    assert not federation.combine(ZERO, [*sent[:6], Reply(6, moved(ZERO, 7.0))]).skipped
    assert federation.combine(ZERO, []).skipped == "no reply remains"


def test_the_server_trains_only_for_rules_that_ask() -> None:
    calls = []

    def root(arrays: Arrays) -> Arrays:
        calls.append(arrays)
        return moved(arrays, 1.0)

    assert combined("median", 1.0, 2.0, 3.0, root=root).arrays["b"].tolist() == [2, 2]
    assert not calls
    done = combined("fltrust", 1.0, 2.0, -3.0, byzantine=1, root=root)
    assert len(calls) == 1
    np.testing.assert_allclose(done.arrays["b"], [1, 1], rtol=1e-5)  # both agreeing rows, at the length of the root's
    with pytest.raises(AgrbenchError, match="root= returned no model: it has no array 'w'"):
        combined("fltrust", 1.0, 2.0, 3.0, byzantine=1, root=lambda arrays: {})


def test_the_server_evaluates_models_with_each_update_applied_alone() -> None:
    seen = []

    def evaluate(arrays: Arrays) -> tuple[float, float]:
        seen.append(float(arrays["b"][0]))
        return abs(seen[-1]), -abs(seen[-1])

    done = combined("fang", 1.0, -1.0, 2.0, 50.0, byzantine=1, evaluate=evaluate)
    assert sorted(set(seen) & {1.0, -1.0, 2.0, 50.0}) == [-1.0, 1.0, 2.0, 50.0]
    assert done.weights[3] == 0


def test_rules_remember_clients_by_name_whoever_takes_part() -> None:
    federation, server = Federation("foolsgold"), agrbench.Server("foolsgold")
    rng = np.random.default_rng(0)
    arrays: Arrays = {"w": np.zeros(6, np.float32)}
    for clients in (["a", "b", "c"], ["c", "b"], ["d", "c", "a"]):
        rows = rng.normal(size=(len(clients), 6)).astype(np.float32)
        done = federation.combine(
            arrays, [Reply(name, {"w": arrays["w"] + row}) for name, row in zip(clients, rows, strict=True)]
        )
        step = server.step(rows, clients=clients)
        np.testing.assert_allclose(done.arrays["w"], arrays["w"] + step, rtol=1e-4, atol=1e-6)
        arrays = done.arrays


def test_a_rule_that_fails_later_on_skips_the_round(tmp_path: Path) -> None:
    plugin = tmp_path / "moody.py"
    plugin.write_text(
        '"""Fail on large updates."""\nfrom agrbench.plugins import Defense\n'
        "def weigh(round):\n    assert round.norms.max() < 10, 'too large'\n    return round.norms > 0\n"
        "defense = Defense(weigh)\n"
    )
    federation = Federation("moody", plugins=plugin)
    with pytest.raises(AgrbenchError, match="too large"):
        federation.combine(ZERO, replies(1.0, 100.0))
    assert federation.combine(ZERO, replies(1.0, 2.0)).arrays["b"].tolist() == [1.5, 1.5]
    assert "too large" in federation.combine(ZERO, replies(1.0, 100.0)).skipped


def test_a_global_model_of_another_form_is_refused() -> None:
    with pytest.raises(AgrbenchError, match="no array 'weight'"):
        Federation("median", module=nn.Linear(3, 2)).combine(ZERO, replies(1.0))
    with pytest.raises(AgrbenchError, match="8 parameters, and the layout 5"):
        Federation("median", layout=agrbench.Layout.of_shapes([(5,)])).combine(ZERO, replies(1.0))
    with pytest.raises(AgrbenchError, match="no arrays of floats"):
        Federation("median").combine({"n": np.zeros(3, int)}, [])
