"""Rules from elsewhere: byzfl's, Flower's and functions of a user's module, in stacks, grids and certificates."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flwr.serverapp.strategy as strategies
import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from torch import Tensor

import agrbench
from agrbench import specs
from agrbench.conformance import laws
from agrbench.conformance.cases import Case, Violation
from agrbench.conformance.certificates import claims
from agrbench.errors import AgrbenchError, Inapplicable, SpecError
from agrbench.plugins import elsewhere, registry
from agrbench.results.tables import notes
from agrbench.server.judge import Outcome
from agrbench.simulation import grid
from agrbench.simulation.log import Log

ROWS = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
MODEL = torch.linspace(-1, 1, 6)
SIZES = torch.arange(1, 10)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a user's module into the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rules_of_mine.py"
    path.write_text(
        "import numpy as np\n"
        "def middle(rows, scale=1.0):\n    return scale * np.median(rows.numpy(), axis=0)\n"
        "def stays(rows):\n    rows *= 2\n    return rows.mean(0)\n"
        "def rowwise(rows):\n    return rows\n"
        "def fails(rows):\n    raise RuntimeError('not today')\n"
        "CONSTANT = 1\n"
    )
    monkeypatch.delitem(sys.modules, "rules_of_mine", raising=False)
    return path


@pytest.mark.parametrize("text", [
    "byzfl:TrMean(f=6)", "nnm+byzfl:TrMean(f=6)", "python:my.module:aggregate(names={'a:b': 1})", "flower:Krum",
])  # fmt: skip
def test_names_with_parts_are_read_and_written(text: str) -> None:
    assert specs.join(specs.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["a.b", "a:", ":a", "a : b", "a:b:", "a:(f=1)", "a:b[1]", "(a:b)", "a:1", "a.b(x=1)", "{a:b}"]
)
def test_other_texts_with_colons_and_dots_are_no_specs(text: str) -> None:
    with pytest.raises(SpecError, match="is not a spec"):
        specs.parse(text)


def test_byzfl_s_rule_gives_the_step_also_behind_a_row_stage() -> None:
    byzfl = elsewhere.byzfl()
    mixed = byzfl.NNM(2)(ROWS)
    for spec, rows in (("byzfl:TrMean(f=2)", ROWS), ("nnm+byzfl:TrMean(f=2)", mixed)):
        step = agrbench.aggregate(ROWS, spec, byzantine=2)
        torch.testing.assert_close(step, byzfl.TrMean(2)(rows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "strategy"),
    [
        ("flower:Krum(num_malicious_nodes=2)", strategies.Krum(num_malicious_nodes=2)),
        ("flower:MultiKrum(num_malicious_nodes=2,num_nodes_to_select=3)",
         strategies.MultiKrum(num_malicious_nodes=2, num_nodes_to_select=3)),
        ("flower:FedMedian", strategies.FedMedian()),
        ("flower:FedAvg", strategies.FedAvg()),
    ],
)  # fmt: skip
def test_flower_s_strategies_aggregate_whole_models(spec: str, strategy: strategies.Strategy) -> None:
    class Sent:
        def __init__(self, row: Tensor, size: int) -> None:
            arrays = ArrayRecord({"all": Array((row + MODEL).numpy())})
            self.content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": size})})

        def has_error(self) -> bool:
            return False

    sent: Any = [Sent(row, int(size)) for row, size in zip(ROWS, SIZES, strict=True)]
    arrays, _ = strategy.aggregate_train(1, sent)
    assert arrays is not None
    wanted = torch.from_numpy(arrays["all"].numpy()) - MODEL
    step = agrbench.aggregate(ROWS, spec, byzantine=2, model=MODEL, sizes=SIZES)
    torch.testing.assert_close(step, wanted.to(step), rtol=1e-5, atol=1e-6)
    with pytest.raises(AgrbenchError, match="pass model="):
        agrbench.aggregate(ROWS, spec, byzantine=2)


def test_a_function_of_a_module_here_gives_the_step(module: Path) -> None:
    for spec, scale in (("python:rules_of_mine:middle", 1.0), ("python:rules_of_mine:middle(scale=2.0)", 2.0)):
        step = agrbench.aggregate(ROWS, spec)
        np.testing.assert_allclose(step, scale * np.median(ROWS, axis=0), rtol=1e-6)


def test_such_rules_name_no_weights(module: Path) -> None:
    with pytest.raises(AgrbenchError, match="returns a step and no weights; write agrbench"):
        agrbench.weigh(ROWS, "byzfl:Median")
    outcome = agrbench.Server("byzfl:Median").decide(torch.cat([ROWS, torch.full((1, 6), torch.nan)]))
    assert not outcome.named
    assert outcome.weights.tolist() == pytest.approx([*[1 / 9] * 9, 0])  # the shares by which buffers are combined
    assert outcome.distrusted is None


def test_what_cannot_be_combined_is_said(module: Path) -> None:
    for spec, said in {
        "amp+byzfl:Median": "judges no view but the updates themselves: it returns a step and no weights",
        "byzfl:TrMean(f=1)": "byzfl:TrMean is told f=1, and the server assumes 2; write f=2",
        "byzfl:TrMean(f=5)": "does not combine 9 rows: ValueError: Cannot tolerate 2f",
        "flower:Bulyan(num_malicious_nodes=2)": "ValueError: Bulyan returned no model for 9 replies",
        "byzfl:NNM(f=2)": "it returned (9, 3) for (9, 3)",
        "python:rules_of_mine:fails": "does not combine 9 rows: RuntimeError: not today",
    }.items():
        with pytest.raises(Inapplicable) as error:
            agrbench.aggregate(ROWS, spec, byzantine=2, layout=[(6,)], model=MODEL, sizes=SIZES)
        assert said in str(error.value), spec
    for spec, said in {
        "byzfl:Trmean": "byzfl has no rule 'Trmean'; did you mean TrMean",
        "byzfl:TrMean(ff=2)": "unexpected keyword argument 'ff'",
        "byzl:TrMean": "write byzfl:RULE, flower:STRATEGY or python:MODULE:FUNCTION",
        "python:rules_of_yours:middle": "Python finds no module 'rules_of_yours'",
        "python:rules_of_mine:midle": "has no rule 'midle'; did you mean middle?",
        "python:rules_of_mine:middle(scal=2)": "unexpected keyword argument 'scal'",
        "byzfl:Median+krum": "is a rule from elsewhere and no stage",
    }.items():
        with pytest.raises(SpecError) as refused:
            agrbench.aggregate(ROWS, spec, byzantine=2)
        assert said in str(refused.value), spec


def test_records_name_the_library_and_become_stale_with_a_user_s_module(module: Path) -> None:
    known = registry.of()
    assert known.digest("defense", "byzfl:Median").endswith(f" byzfl {importlib.metadata.version('byzfl')}")
    assert known.digest("defense", "nnm+flower:Krum").endswith(f" flwr {importlib.metadata.version('flwr')}")
    before = known.digest("defense", "python:rules_of_mine:middle")
    module.write_text(module.read_text() + "# a comment\n")
    assert known.digest("defense", "python:rules_of_mine:middle") == before
    module.write_text(module.read_text().replace("CONSTANT = 1", "CONSTANT = 2"))
    assert known.digest("defense", "python:rules_of_mine:middle") != before


def test_they_are_planned_without_an_amplified_form_and_their_log_has_no_rates() -> None:
    assert grid.forms(["byzfl:Median"], registry.of(), "both") == ["byzfl:Median"]
    log = Log()
    step = torch.zeros(2)
    cohort: Any = type("Cohort", (), {"malicious": torch.tensor([0]), "honest": torch.tensor([1])})
    for named in (True, False):
        log.played(
            cohort, Outcome(step, lambda: torch.ones(2), None, torch.zeros(2, dtype=torch.bool), named=named), 0.0, True
        )
        log.measured(len(log.rounds), {"accuracy": 0.0, "loss": 0.0, "success": None, "success_untriggered": None})
    assert log.as_record(2, False)["trust"]["malicious_share"] == [0.5, None]


def test_what_a_rule_remembers_is_kept_in_the_run_and_forked_with_it() -> None:
    case = Case("byzfl:CenteredClipping(tau=0.1)", ROWS.tolist())
    first, second = case.judge(), case.judge()
    steps = [case.outcome(first, number).step for number in (1, 2)]
    assert not torch.equal(*steps)  # it clips around its last answer
    case.outcome(second, 1)
    fork = second.rehearse()
    assert torch.equal(case.outcome(fork, 2).step, steps[1])
    assert torch.equal(case.outcome(second, 2).step, steps[1])


def test_laws_find_what_is_different_about_them(module: Path) -> None:
    with pytest.raises(Violation, match="krum gives"):
        laws.agreement(Case("byzfl:Krum(f=0)", [[0, 0], [1, 0], [0, 0], [2, 0]]), other="krum")
    with pytest.raises(AgrbenchError, match="wrote into what it was given"):
        laws.untouched(Case("python:rules_of_mine:stays", ROWS.tolist()))


def test_a_certificate_has_the_laws_that_need_no_verdict() -> None:
    claimed = {str(claim): claim for claim in claims("byzfl:Median")}
    assert {"shape", "finite", "scaling", "translation", "hull", "resists", "followed"} <= claimed.keys()
    assert claimed.keys().isdisjoint({"amplified", "bounded"})
    claimed["scaling"].verify(5)


def test_tables_say_that_weights_are_missing() -> None:
    group: Any = SimpleNamespace(
        defenses=("fedavg", "nnm+byzfl:TrMean(f=2)", "krum"), attacks=(), every_seed=(), records={}, missing={}
    )
    (note,) = notes.missing(group, {})
    assert note.startswith("No weights: nnm+byzfl:TrMean(f=2): ")
    group.defenses = ("fedavg", "krum")
    assert not notes.missing(group, {})
