"""Specs: read as literals and never evaluated, written back in one form."""

from __future__ import annotations

import itertools
import keyword
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agrbench.errors import SpecError
from agrbench.specs import LONGEST, MOST, IllTyped, Term, join, natural, parse, spread, written

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),  # Python writes none of over 4,300 digits
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.binary(max_size=8),
)
LITERALS: st.SearchStrategy[Any] = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(ATOMS, inner, max_size=3),
    ),
    max_leaves=6,
)
TERMS = st.builds(Term, NAMES, st.dictionaries(NAMES, LITERALS, max_size=4))
STACKS = st.lists(TERMS, min_size=1, max_size=4).map(tuple)


def same(ours: object, theirs: object) -> bool:
    """Compare by value and type throughout: `repr` tells 1 from 1.0 and True, and 0.0 from -0.0."""
    return repr(ours) == repr(theirs)


@given(terms=STACKS)
def test_parsing_what_was_joined_gives_the_terms_back(terms: tuple[Term, ...]) -> None:
    assume(len(join(terms)) <= LONGEST)
    again = parse(join(terms))
    assert [term.name for term in again] == [term.name for term in terms]
    for ours, theirs in zip(again, terms, strict=True):
        assert dict(ours.arguments) == dict(theirs.arguments)
        assert all(same(ours.arguments[name], theirs.arguments[name]) for name in theirs.arguments)


@given(terms=STACKS, data=st.data())
def test_order_of_arguments_spaces_and_brackets_do_not_change_the_joined_form(
    terms: tuple[Term, ...], data: st.DataObject
) -> None:
    gaps = st.sampled_from(["", " ", "  "])

    def written(term: Term) -> str:
        pairs = data.draw(st.permutations(list(term.arguments.items())))
        inside = ",".join(f"{data.draw(gaps)}{key}{data.draw(gaps)}={value!r}{data.draw(gaps)}" for key, value in pairs)
        called, bracketed = data.draw(st.booleans()), data.draw(st.booleans())
        text = f"{term.name}{data.draw(gaps)}({inside})" if pairs or called else term.name
        return f"({text})" if bracketed else text

    text = data.draw(gaps) + f"{data.draw(gaps)}+{data.draw(gaps)}".join(map(written, terms)) + data.draw(gaps)
    assume(len(text) <= LONGEST)
    assert join(parse(text)) == join(terms)


def test_hyperparameters_are_written_in_the_order_of_their_names() -> None:
    assert join(parse("amp(kernel=3, by='value') + nnm + krum()")) == "amp(by='value',kernel=3)+nnm+krum"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1", -1),
        ("+1", 1),
        ("1_000", 1000),
        ("0x10", 16),
        ("1e-3", 0.001),
        ("True", True),
        ("None", None),
        ("'a+b'", "a+b"),
        ("'a' 'b'", "ab"),
        ("(1, 2.0)", (1, 2.0)),
        ("[1, [2]]", [1, [2]]),
        ("{'a': (1,)}", {"a": (1,)}),
        ("b'x'", b"x"),
    ],
)
def test_every_literal_is_read_as_python_reads_it(text: str, value: object) -> None:
    (term,) = parse(f"rule(x={text})")
    assert same(term.arguments["x"], value)
    assert same(parse(join((term,)))[0].arguments["x"], value)


@pytest.mark.parametrize(
    "text",
    [
        "1e999",
        "-1e999",
        "1e999j",
        "1+2j",
        "-1j",
        "1-0j",
        "(1, 1e999)",
        "...",
        "set()",
        "{1}",
        pytest.param("0x" + "f" * 5000, id="huge whole number"),
        "{[1]: 2}",
        "{{}: 2}",
    ],
)
def test_a_value_is_refused_or_can_be_read_back_from_its_joined_form(text: str) -> None:
    """A joined form is what records keep: one that cannot be read again loses the record."""
    try:
        once = join(parse(f"rule(x={text})"))
    except SpecError:
        return
    assert join(parse(once)) == once


@pytest.mark.parametrize("text", ["{'a', 'b', 'c', 'd'}", "{'a': {'b', 'c', 'd', 'e'}}"])
def test_the_joined_form_is_the_same_in_every_process(text: str) -> None:
    """The joined form goes into a cell's key, and Python shuffles the hashes of text anew in every process."""
    program = (
        "import sys\n"
        "from agrbench.errors import SpecError\n"
        "from agrbench.specs import join, parse\n"
        "try:\n"
        "    print(join(parse(sys.argv[1])))\n"
        "except SpecError:\n"
        "    print('refused')\n"
    )
    forms = {
        subprocess.run(
            [sys.executable, "-c", program, f"rule(x={text})"],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(forms) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "+",
        "krum+",
        "+krum",
        "amp krum",
        "amp-krum",
        "amp*krum",
        "amp@krum",
        "amp|krum",
        "amp,krum",
        "amp and krum",
        "-krum",
        "amp+(nnm+krum)",
        "3",
        "'krum'",
        "None",
        "[krum]",
        "krum[0]",
        "os.system",
        "os.system(x=1)",
        "amp(kernel=3)(by='value')",
        "amp.krum+krum",
        "krum(x=1, x=2)",
        "krum(**{'x': 1})",
        "krum(x)",
        "krum(1)",
        "krum(*x)",
        "krum(x := 1)",
        "krum(x=1",
        "krum(x=)",
        "krum(x for x in y)",
        "lambda: krum",
        "krum if x else amp",
        "krum; amp",
        "import os",
        "krum = 1",
        "krum\namp",
        "krum\0",
        "\udc80",
        "../krum",
        "krum.py",
    ],
)
def test_what_is_no_spec_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse(text)
    assert repr(text) in str(refused.value)
    assert "write" in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        "ten",
        "1+1",
        "2*3",
        "-'a'",
        "not 1",
        "f()",
        "f'a'",
        "a.b",
        "(1).real",
        "[1][0]",
        "lambda: 1",
        "[i for i in (1,)]",
        "(1, f())",
        "{'a': b}",
        "1 if 2 else 3",
    ],
)
def test_a_value_that_is_no_literal_is_refused_by_name(value: str) -> None:
    with pytest.raises(IllTyped) as refused:
        parse(f"amp(kernel={value})+krum")
    assert refused.value.name == "amp"
    assert refused.value.argument == "kernel"
    assert "amp(kernel=" in str(refused.value)


def test_a_positional_argument_is_answered_with_how_to_name_it() -> None:
    with pytest.raises(SpecError, match=r"write amp\(name=3\)"):
        parse("amp(3)+krum")


@pytest.mark.parametrize(
    "shape",
    [
        "krum(x=__import__('pathlib').Path({path!r}).touch())",
        "krum(x=open({path!r}, 'w'))",
        "krum(x=[open({path!r}, 'w')])",
        "krum(x={{'a': open({path!r}, 'w')}})",
        "krum(x=(lambda: open({path!r}, 'w'))())",
        "krum(x=f\"{{open({path!r}, 'w')}}\")",
        "krum(x=[open(p, 'w') for p in [{path!r}]])",
        "krum(open({path!r}, 'w'))",
        "open({path!r}, 'w')",
        "__import__('pathlib').Path({path!r}).touch()+krum",
        "krum(**open({path!r}, 'w'))",
        "krum+[open({path!r}, 'w')][0]",
    ],
)
def test_nothing_that_a_spec_says_is_run(shape: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(SpecError):
        parse(shape.format(path=str(trace)))
    assert not trace.exists()


@given(text=st.text() | st.text("krump(x=1, '\"+)[]{}:.*-\\\n#0_eE") | st.text("+-()[]{}~x=1"))
def test_any_text_is_a_spec_or_a_spec_error(text: str) -> None:
    try:
        terms = parse(text)
    except SpecError:
        return
    assert all(term.name.isidentifier() for term in terms)
    assert join(parse(join(terms))) == join(terms)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("krum" + "+krum" * 20_000, id="many names"),
        pytest.param("krum(x=" + "-" * 100_000 + "1)", id="many signs"),
        pytest.param("krum(x=" + "(" * 5_000 + "1" + ")" * 5_000 + ")", id="many brackets"),
        pytest.param("krum(x=" + "[" * 5_000 + "]" * 5_000 + ")", id="deep list"),
        pytest.param("krum(x=" + "[" * 150 + "]" * 150 + ")", id="deep list that can be parsed"),
        pytest.param("krum(x=" + "1" * 5_000 + ")", id="many digits"),
        pytest.param("krum(x=1" + "+1j" * 20_000 + ")", id="long sum"),
        pytest.param("krum" + ".krum" * 20_000, id="many attributes"),
        pytest.param("krum" + "()" * 20_000, id="many calls"),
    ],
)
def test_a_text_too_long_to_parse_is_a_spec_or_a_spec_error(text: str) -> None:
    try:
        once = join(parse(text))
    except SpecError:
        return
    assert join(parse(once)) == once


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("k" * 2_000, id="one name"),
        pytest.param("nnm+" * 600 + "krum", id="many names"),
        pytest.param("krum(" + ",".join(f"x{place}=1" for place in range(1000, 1400)) + ")", id="many hyperparameters"),
    ],
)
def test_a_long_spec_is_refused_or_read_to_its_end(text: str) -> None:
    try:
        terms = parse(text)
    except SpecError:
        return
    assert join(terms) == text


@pytest.mark.parametrize(
    "deep", ["-" * 900 + "1", "~" * 900 + "1", "1+" * 400 + "1j", "a." * 400 + "b", "[" * 450 + "]" * 450]
)
def test_a_hyperparameter_nested_hundreds_of_times_is_refused(deep: str) -> None:
    with pytest.raises(SpecError, match="is not a spec"):
        parse(f"krum(f={deep})")


@pytest.mark.parametrize(
    "ordered",
    [
        ["krum", "krum(m=2)", "krum(m=10)", "krum(m=10,power=2)", "krum(power=1)", "median"],
        ["amp(kernel=9)", "amp(kernel=9)+krum", "amp(kernel=17)", "amp(kernel=17)+krum"],
        ["ipm(epsilon=-1)", "ipm(epsilon=1e-3)", "ipm(epsilon=0.01)", "ipm(epsilon=0.5)", "ipm(epsilon=100.0)"],
        ["x(a=9)", "x(a=10)", "x(a='byzfl')", "x(a=(9, 1))", "x(a=(10, 0))"],
        ["mlp", "mlp(64)", "mlp(512)", "mlp(512,64)", "mlp(512,512)", "mlp(1024)"],
        ["fang", "fang_err", "fang_lrr"],
        ["../x", "<b>", "_(2)", "krum", "not a spec"],
    ],
    ids=lambda ordered: ordered[-1],
)
def test_specs_are_in_the_order_of_their_names_and_values(ordered: list[str]) -> None:
    for each in (ordered, ordered[::-1]):
        assert sorted(each, key=natural) == ordered


@given(terms=st.lists(TERMS, min_size=2, max_size=5))
def test_any_specs_have_one_order(terms: list[Term]) -> None:
    written = list({str(term) for term in terms})
    assume(all(len(each) <= LONGEST for each in written))
    backwards = written[::-1]
    assert sorted(written, key=natural) == sorted(backwards, key=natural)


# Specs with several values


@given(st.lists(st.lists(ATOMS, min_size=1, max_size=3), min_size=1, max_size=3))
def test_several_values_stand_for_every_combination(choices: list[list[Any]]) -> None:
    """The first hyperparameter changes last, as in nested loops."""
    names = "abc"[: len(choices)]
    texts = [f"{name}={'|'.join(map(written, values))}" for name, values in zip(names, choices, strict=True)]
    assume(
        not any(isinstance(value, float) and written(value) in ("inf", "nan") for values in choices for value in values)
    )
    combinations = itertools.product(*choices)
    wanted = [(Term("amp"), Term("krum", dict(zip(names, values, strict=True)))) for values in combinations]
    found = [parse(spec) for spec in spread([f"amp+krum({','.join(texts)})"])]
    assert list(map(repr, found)) == list(dict.fromkeys(map(repr, wanted)))


def test_values_may_stand_in_any_term_and_specs_without_them_stay_as_they_are() -> None:
    assert spread(["krum", "amp(kernel=2|3)+nnm( )+lie(z='a|b')", "krum", "no spec|", "a|b"]) == [
        "krum", "amp(kernel=2) + nnm() + lie(z='a|b')", "amp(kernel=3) + nnm() + lie(z='a|b')", "no spec|", "a|b",
    ]  # fmt: skip


def test_more_combinations_than_anyone_would_run_are_refused() -> None:
    many = "|".join(map(str, range(40)))
    with pytest.raises(SpecError, match=f"stands for 1600 specs; write one for at most {MOST}"):
        spread([f"krum(a={many},b={many})"])
