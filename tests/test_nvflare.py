"""NVFLARE's aggregator, on its own models, shareables and contexts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from nvflare.apis.fl_constant import FLMetaKey, ReservedKey
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

import agrbench
from agrbench.errors import AgrbenchError
from agrbench.nvflare import Robust

RNG = np.random.default_rng(0)
BEFORE = {"w": RNG.normal(size=(3, 4)).astype(np.float32), "steps": np.array(5)}
UPDATES = [RNG.normal(size=(3, 4)).astype(np.float32) for _ in range(7)]


def sent(number: int, update: Any, kind: str = "FULL", steps: Any = None) -> FLModel:
    params = {"w": update if kind == "DIFF" else BEFORE["w"] + update, "steps": np.array(9)}
    return FLModel(kind, params, meta={"client_name": f"site-{number}", FLMetaKey.NUM_STEPS_CURRENT_ROUND: steps})


def aggregated(aggregator: Robust, *models: FLModel) -> FLModel:
    for model in models:
        aggregator.accept_model(model)
    return aggregator.aggregate_model()


def context() -> FLContext:
    made = FLContextManager(identity_name="server", job_id="job", public_stickers={}, private_stickers={}).new_context()
    made.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable(BEFORE, {}), private=True, sticky=True)
    return made


@pytest.mark.parametrize("kind", ["FULL", "DIFF"])
def test_the_model_is_what_aggregate_makes_of_the_same_replies(kind: str) -> None:
    aggregator = Robust("amp+krum", 2, initial=BEFORE)
    models = [sent(number, update, kind) for number, update in enumerate(UPDATES)]
    done = aggregated(aggregator, *reversed(models))
    step = agrbench.aggregate([[update] for update in UPDATES], "amp+krum", byzantine=2)[0]
    assert done.params_type == ParamsType(kind)
    wanted = step if kind == "DIFF" else BEFORE["w"] + step
    np.testing.assert_allclose(done.params["w"], wanted, rtol=1e-5, atol=1e-6)
    assert done.params.get("steps", 5) == 5
    assert (aggregator.metrics["kept"], aggregator.metrics["rejected"]) == (7, 0)
    assert sum(aggregator.metrics[f"weight-site-{number}"] for number in range(7)) == 1
    assert done.metrics is None  # it would be sent to all clients


def test_the_update_that_the_controller_applies_is_the_step() -> None:
    model = FLModel(params={name: value.copy() for name, value in BEFORE.items()})
    done = aggregated(Robust("median", 1, initial=BEFORE), *(sent(k, each, "DIFF") for k, each in enumerate(UPDATES)))
    after = FLModelUtils.update_model(model, done)
    np.testing.assert_allclose(after.params["w"], BEFORE["w"] + np.median(UPDATES, axis=0), rtol=1e-5, atol=1e-6)
    assert after.params["steps"] == 5


def test_malformed_replies_are_left_out_and_too_few_skip_the_round() -> None:
    good = [sent(number, update) for number, update in enumerate(UPDATES[:5])]
    bad = [
        sent(5, np.full((3, 4), np.nan)),
        FLModel(params={"w": np.zeros((4, 3), np.float32)}, meta={"client_name": "site-6"}),
        FLModel(metrics={"accuracy": 1.0}, meta={"client_name": "site-7"}),
        FLModel(params={"w": "text"}, meta={"client_name": "site-8"}),
    ]
    aggregator = Robust("median", 2, initial=BEFORE)
    done = aggregated(aggregator, *good, *bad)
    np.testing.assert_allclose(done.params["w"], BEFORE["w"] + np.median(UPDATES[:5], axis=0), rtol=1e-5, atol=1e-6)
    assert (aggregator.metrics["kept"], aggregator.metrics["rejected"]) == (5, 4)
    done = aggregated(Robust("krum", 2, initial=BEFORE), *good, *bad)
    assert np.array_equal(done.params["w"], BEFORE["w"])


def test_examples_weigh_only_in_rules_that_are_weighted() -> None:
    models = [sent(k, update, steps=k) for k, update in enumerate(UPDATES[:3])]
    plain, weighted = (aggregated(Robust(f"fedavg{more}", initial=BEFORE), *models) for more in ("", "(weighted=True)"))
    np.testing.assert_allclose(plain.params["w"], BEFORE["w"] + np.mean(UPDATES[:3], axis=0), rtol=1e-5, atol=1e-6)
    mean = (UPDATES[1] + 2 * UPDATES[2]) / 3
    np.testing.assert_allclose(weighted.params["w"], BEFORE["w"] + mean, rtol=1e-5, atol=1e-6)


def test_scatter_and_gather_tells_the_global_model_and_the_sender() -> None:
    aggregator, told = Robust("median", 1), context()
    for number, update in enumerate(UPDATES):
        shareable = FLModelUtils.to_shareable(sent(0, update))  # all claim to be site-0
        shareable.set_peer_props({ReservedKey.IDENTITY_NAME: f"site-{number}"})
        assert aggregator.accept(shareable, told)
    broken = FLModelUtils.to_shareable(sent(7, UPDATES[0]))
    broken.set_peer_props({ReservedKey.IDENTITY_NAME: "site-7"})
    broken["DXO"] = None
    assert not aggregator.accept(broken, told)
    done = FLModelUtils.from_shareable(aggregator.aggregate(told))
    np.testing.assert_allclose(done.params["w"], BEFORE["w"] + np.median(UPDATES, axis=0), rtol=1e-5, atol=1e-6)
    assert aggregator.metrics["kept"] == 7


def test_rounds_follow_each_other_and_a_reset_forgets_replies() -> None:
    aggregator = Robust("median", initial=BEFORE)
    first = aggregated(aggregator, sent(0, UPDATES[0], "DIFF"))
    aggregator.accept_model(sent(1, UPDATES[1], "DIFF"))
    aggregator.reset_stats()
    second = aggregated(aggregator, FLModel("FULL", first.params | {"w": BEFORE["w"] + 1}, meta={"client_name": "a"}))
    np.testing.assert_allclose(second.params["w"], BEFORE["w"] + 1, rtol=1e-6)
    assert aggregator.metrics["kept"] == 1


def test_without_a_global_model_the_round_is_refused() -> None:
    with pytest.raises(AgrbenchError, match="pass initial="):
        aggregated(Robust("median"), sent(0, UPDATES[0]))


def test_without_nvflare_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: Mapping[str, None] = {"nvflare.apis.fl_constant": None}
    monkeypatch.delitem(sys.modules, "agrbench.nvflare")
    for name in gone:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"python -m pip install 'agrbench\[nvflare\]'"):
        importlib.import_module("agrbench.nvflare")
