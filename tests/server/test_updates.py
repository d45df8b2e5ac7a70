"""The API takes updates in the forms that people hold, and refuses the rest in a sentence about their input."""

import subprocess
import sys
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import agrbench
from agrbench.layout import Layout
from agrbench.server import updates as forms

MODEL = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))


def _states(clients: int = 10, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    named = dict(MODEL.named_parameters())
    return [
        {part: torch.randn(value.shape, generator=generator) for part, value in named.items()} for _ in range(clients)
    ]


def _rows(states: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.stack([torch.cat([value.flatten() for value in state.values()]) for state in states])


@pytest.mark.parametrize("spec", ["trimmed_mean", "krum", "amp+krum", "nnm+geometric_median"])
def test_state_dicts_are_judged_as_their_rows_with_the_modules_layout(spec: str) -> None:
    states = _states()
    step = agrbench.aggregate(states, spec, byzantine=3)
    rows = agrbench.aggregate(_rows(states), spec, byzantine=3, layout=Layout.of(MODEL))
    assert list(step) == list(states[0])
    assert {part: value.shape for part, value in step.items()} == {part: v.shape for part, v in states[0].items()}
    assert torch.equal(torch.cat([value.flatten() for value in step.values()]), rows)


def test_a_step_of_state_dicts_adds_to_the_model() -> None:
    step = agrbench.aggregate([OrderedDict(state) for state in _states()], "median")
    moved = {part: value + step[part] if part in step else value for part, value in MODEL.state_dict().items()}
    assert str(nn.Sequential(*MODEL).load_state_dict(moved)) == "<All keys matched successfully>"


def test_lists_of_arrays_come_back_as_a_list_of_arrays() -> None:
    states = _states()
    arrays = [[value.numpy() for value in state.values()] for state in states]
    step = agrbench.aggregate(arrays, "amp+krum", byzantine=3)
    expected = agrbench.aggregate(states, "amp+krum", byzantine=3)
    assert isinstance(step, list) and all(isinstance(part, np.ndarray) for part in step)
    for part, value in zip(step, expected.values(), strict=True):
        np.testing.assert_array_equal(part, value.numpy())


@given(st.integers(1, 6), st.integers(1, 9), st.sampled_from([np.float16, np.float32, np.float64]))
def test_a_list_of_vectors_is_the_matrix_of_them(clients: int, width: int, dtype: type[np.floating[Any]]) -> None:
    rows = np.random.default_rng(0).normal(size=(clients, width)).astype(dtype)
    step = agrbench.aggregate(list(rows), "median")
    assert step.dtype == dtype
    np.testing.assert_array_equal(step, agrbench.aggregate(rows, "median"))


def test_each_part_keeps_its_dtype() -> None:
    states = [{"half": torch.ones(2, dtype=torch.float16), "double": torch.ones(3, dtype=torch.float64)}] * 3
    assert {part: value.dtype for part, value in agrbench.aggregate(states, "median").items()} == {
        "half": torch.float16,
        "double": torch.float64,
    }


def test_empty_and_scalar_parts_come_back() -> None:
    step = agrbench.aggregate(
        [{"none": torch.zeros(0, 3), "scale": torch.tensor(i)} for i in (0.0, 1.0, 2.0)], "median"
    )
    assert step["none"].shape == (0, 3) and step["scale"] == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_of_norm_above_256_count_in_every_dtype(dtype: torch.dtype) -> None:
    rows = torch.tensor([[0.0, 0], [300, 300], [300, 300]], dtype=dtype)  # 300 squared is above float16's 65,504
    step = agrbench.aggregate(rows, "median")
    assert step.dtype == dtype and step.tolist() == [300.0, 300.0]
    agrbench.weigh(rows, "median")


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ("rows", "updates is a str; pass"),
        ([], "updates is a list; pass"),
        ([[]], r"updates\[0\] is a dict, unlike|updates\[0\] is .* empty"),
        ([nn.Linear(2, 3)], "updates is a list; pass"),
        ([np.zeros(3), np.zeros(4)], r"updates\[1\] is \(4,\); pass one vector of the same length"),
        ([np.zeros(3), {"a": np.zeros(3)}], r"updates\[1\] is a dict; pass one vector"),
        ([np.zeros((3, 2))], r"updates\[0\] is \(3, 2\); pass one vector"),
        ([[0.0, 1.0]], r"updates\[0\]\[0\] is a float; pass arrays or tensors"),
        ([{"a": np.zeros(3)}, {"b": np.zeros(3)}], r"the parts of updates\[1\] are not those of updates\[0\].*'a'"),
        ([{"a": np.zeros(3)}, {"a": np.zeros(2)}], r"the parts of updates\[1\] .* differ in shape \(\['a'\]\)"),
        (np.zeros((3, 2), dtype=object), r"updates is \(3, 2\) of object; pass floats"),
        (np.zeros((3, 2), dtype=np.int64), r"updates is \(3, 2\) of int64; pass floats"),
    ],
)
def test_anything_else_is_refused_in_a_sentence_about_the_input(updates: Any, message: str) -> None:
    for ask in agrbench.aggregate, agrbench.weigh:
        with pytest.raises(agrbench.AgrbenchError, match=message):
            ask(updates, "median")


def test_integer_buffers_are_refused_by_name() -> None:
    with pytest.raises(agrbench.AgrbenchError, match=r"\['1.num_batches_tracked'\] is of torch.int64; leave"):
        agrbench.aggregate([MODEL.state_dict()] * 3, "median")


@pytest.mark.parametrize("bound", [0.3, 2.0, -1, True, "2", np.float64(2), np.bool_(True)])
def test_a_bound_that_is_no_number_of_clients_is_refused(bound: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(10, 4))
    for ask in agrbench.aggregate, agrbench.weigh:
        with pytest.raises(agrbench.AgrbenchError, match=r"byzantine is .*; pass a number of clients"):
            ask(rows, "krum", byzantine=bound)
    with pytest.raises(agrbench.AgrbenchError, match=r"malicious is .*; pass a number of clients"):
        agrbench.forge("sign_flip", rows, malicious=bound)


@pytest.mark.parametrize("bound", [np.int64(3), np.uint8(3), torch.tensor(3)])
def test_a_whole_number_of_any_library_is_a_bound(bound: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(10, 4))
    np.testing.assert_array_equal(agrbench.aggregate(rows, "krum", bound), agrbench.aggregate(rows, "krum", 3))


@pytest.mark.parametrize("spec", ["krum", "trimmed_mean", "bulyan", "nnm+median", "amp+krum"])
def test_a_rule_that_uses_the_bound_has_no_silent_one(spec: str) -> None:
    rows = np.random.default_rng(0).normal(size=(10, 4))
    for ask in agrbench.aggregate, agrbench.weigh:
        with pytest.raises(agrbench.AgrbenchError, match="such as byzantine=3"):
            ask(rows, spec, layout=[(4,)])


def test_a_rule_that_does_not_use_the_bound_needs_none() -> None:
    rows = np.random.default_rng(0).normal(size=(10, 4))
    np.testing.assert_array_equal(agrbench.aggregate(rows, "median"), np.median(rows, axis=0))


def test_a_layout_of_shapes_is_refused_where_updates_have_their_own() -> None:
    states = [{"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}] * 4
    with pytest.raises(agrbench.AgrbenchError, match="leave layout= out, or pass layout="):
        agrbench.aggregate(states, "median", layout=[(2, 3), (3,)])


def test_a_modules_layout_overrides_what_shapes_alone_tell() -> None:
    module = nn.Sequential(
        nn.Conv2d(2, 4, 2, bias=False), nn.BatchNorm2d(4)
    )  # whose scale is shaped as a bias would be
    parts = dict(module.named_parameters())
    generator = torch.Generator().manual_seed(0)
    states = [{part: torch.randn(v.shape, generator=generator) for part, v in parts.items()} for _ in range(5)]
    step = agrbench.aggregate(states, "amp+krum", byzantine=1, layout=Layout.of(module))
    rows = agrbench.aggregate(_rows(states), "amp+krum", byzantine=1, layout=Layout.of(module))
    assert torch.equal(torch.cat([value.flatten() for value in step.values()]), rows)


def test_a_layout_of_another_size_is_refused() -> None:
    with pytest.raises(agrbench.AgrbenchError, match="parameters"):
        agrbench.aggregate(_states(), "median", layout=Layout.of(nn.Linear(2, 3)))


@pytest.mark.parametrize("module", [nn.Linear(4, 3), nn.Linear(4, 3, bias=False), MODEL, nn.Conv1d(2, 3, 4)])
def test_the_layout_of_stored_shapes_is_that_of_the_module(module: nn.Module) -> None:
    assert Layout.of_stored(value.shape for value in module.parameters()) == Layout.of(module)


def test_the_way_back_inverts_reading() -> None:
    read = forms.read(_states(2))
    for row, state in zip(read.rows, _states(2), strict=True):
        back = read.back(row)
        assert all(torch.equal(back[part], value) for part, value in state.items())


def test_one_plugin_file_may_be_named_alone(tmp_path: Any) -> None:
    path = tmp_path / "fair.py"
    path.write_text(
        '"""Take all."""\n'
        "from agrbench.plugins import Defense\n"
        "def weigh(round):\n    return round.view.new_ones(round.n)\n"
        "defense = Defense(weigh)\n"
    )
    assert agrbench.aggregate(np.ones((3, 2)), "fair", plugins=str(path)).shape == (2,)


def test_a_server_needs_only_torch_and_numpy() -> None:
    """The command line's, the checks' and the tables' libraries may all be absent where updates are combined."""
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in sys.argv[1:]: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import numpy, agrbench\n"
        "print(agrbench.aggregate(numpy.eye(10, dtype='f'), 'nnm+amp+krum', 2, layout=[(4, 2), (2,)]).shape)\n"
    )
    absent = ["hypothesis", "sklearn", "scipy", "click", "tabulate", "rich", "pooch", "threadpoolctl", "psutil"]
    done = subprocess.run([sys.executable, "-c", program, *absent], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("(10,)\n", "")
