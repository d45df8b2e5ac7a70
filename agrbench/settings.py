"""Settings written as specs: how clients train, which model, who holds which data, who is malicious, who takes part.

Nothing here imports torch, so naming and checking a cell is fast.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from agrbench import specs
from agrbench.clients.optimizers import FRACTION, OPTIMIZERS
from agrbench.errors import SpecError
from agrbench.specs import Option, Term, number

VALUES = "*"  # the key of a term's unnamed values, such as the widths of mlp(512, 1024)


def _depth(sizes: tuple[Any, ...]) -> bool:
    return len(sizes) == 1 and _count(sizes[0]) and sizes[0] % 6 == 2 < sizes[0]


def _count(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**31


def _part(values: tuple[Any, ...]) -> bool:
    """Accept one number of clients, or one share of them."""
    return len(values) == 1 and (_count(values[0]) or (type(values[0]) is float and 0 < values[0] <= 1))


def _share(value: Any) -> bool:
    return value in (0, 1) or number(0, 1)(value)


def _names(values: tuple[Any, ...]) -> bool:
    return len(values) > 0 and all(type(value) in (str, int) and value != "" for value in values)


def _numbers(values: tuple[Any, ...]) -> bool:
    return len(values) > 0 and all(type(value) is int and 0 <= value < 2**31 for value in values)


def _ascending(ids: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(ids)))


def _sorted(names: tuple[Any, ...]) -> tuple[str, ...]:
    """Sort names, each once, so that their order makes no difference."""
    return tuple(sorted({str(name) for name in names}))


def _positive(default: float | None) -> Option:
    return Option(default, "a number above 0", number(0))


def _moderate(default: float) -> Option:
    return Option(default, "a number above 0 and below a billion", number(0, 1e9))


def _counts(default: int) -> Option:
    return Option(default, "a whole number from 1", _count)


def _decay(value: Any) -> bool:
    """Accept "cosine", or factors of the learning rate by the round from which they hold."""
    factors = isinstance(value, dict) and value and all(_count(first) for first in value)
    return value == "cosine" or bool(factors and all(map(number(0), value.values())))


def _by_round(value: Any) -> Any:
    return dict(sorted((first, float(factor)) for first, factor in value.items())) if isinstance(value, dict) else value


TRAINING: Mapping[str, Option] = {
    "rate": _positive(None),
    "epochs": _counts(1),
    "batches": _counts(1),
    "batch": Option(None, "a whole number from 1", _count),
    "steps": Option(None, "a whole number from 1", _count),
    "clip": _positive(None),
    "decay": Option(None, "'cosine' or factors by round such as {100: 0.1}", _decay, tidy=_by_round),
    "reset": Option(False, "True or False", lambda value: type(value) is bool),
    "poisoned": Option("anew", "'anew' or 'after'", lambda value: value in ("anew", "after")),
    "root": Option("batches", "'batches' or 'size'", lambda value: value in ("batches", "size")),
}
DEALT: Mapping[str, Option] = {
    "malicious": Option(None, "'all'", lambda value: value == "all"),
}
DECAYS = {
    "beta1": Option(0.9, FRACTION, number(0, 1, closed=True)),
    "beta2": Option(0.99, FRACTION, number(0, 1, closed=True)),
}
TAU = {"tau": _positive(1e-3)}
CNNS = ("mcmahan", "karimireddy", "byzfl")  # whose cnn; agrbench/clients/models.py builds them
CHOICES: Mapping[str, Mapping[str, Mapping[str, Option]]] = {
    "schedule": {
        name: {**TRAINING, **optimizer.options} for name, optimizer in OPTIMIZERS.items()
    },
    "model": {
        "mlp": {VALUES: Option((), "hidden widths, whole numbers from 1", lambda each: all(map(_count, each)), "512")},
        "cnn": {"of": Option("mcmahan", "'mcmahan', 'karimireddy' or 'byzfl'", lambda of: of in CNNS)},
        "resnet": {VALUES: Option((), "one depth, 6 n + 2 such as 20", _depth, "20")},
    },
    "partition": {
        "iid": DEALT,
        "dirichlet": {"alpha": _moderate(0.1), **DEALT},
        "shards": {"labels": _counts(2), **DEALT},
        "natural": {},
        "quantity": {"sigma": _moderate(1.0), **DEALT},
        "sorted": DEALT,
        "similarity": {"gamma": Option(0.5, "a number from 0 to 1", _share), **DEALT},
    },
    "malicious": {
        "bernoulli": {"share": Option(0.3, "a number from 0 to below 1", number(0, 1, closed=True))},
        "ids": {VALUES: Option((), "numbers of clients from 0, such as 0,3", _numbers, "0,3", _ascending)},
        "owners": {VALUES: Option((), "names of owners, such as 'north'", _names, "'north','south'", _sorted)},
    },
    "server": {
        "sgd": {"rate": _positive(1.0), "momentum": Option(0.0, FRACTION, number(0, 1, closed=True))},
        "adagrad": {"rate": _positive(0.1), "beta1": Option(0.0, FRACTION, number(0, 1, closed=True)), **TAU},
        "adam": {"rate": _positive(0.01), **DECAYS, **TAU},
        "yogi": {"rate": _positive(0.01), **DECAYS, **TAU},
    },
    "sample": {
        "sample": {
            VALUES: Option((0.1,), "one number of clients from 1, or one share up to 1.0", _part, "100"),
            "by": Option("uniform", "'uniform' or 'size'", lambda value: value in ("uniform", "size")),
            "quantile": Option(None, "a number above 0 and below 1", number(0, 1)),
        },
    },
}  # fmt: skip


def read(setting: str, text: object) -> Term:
    """Read a setting and fill in every default.

    Raises:
        SpecError: there is no such choice, or a hyperparameter is invalid; the message says what to write.
    """
    if not isinstance(text, str):
        raise _wrong(setting, text, *_signatures(setting))
    return _read(setting, text)


@lru_cache(1024)  # every cell reads its settings, and most cells have the same ones
def _read(setting: str, text: str) -> Term:
    choices = CHOICES[setting]
    try:
        (term,) = specs.parse(text, unnamed=True)
    except specs.IllTyped as error:
        option = choices.get(error.name, {}).get(error.argument)
        ways = _signatures(setting) if option is None else [f"{error.argument} as {option.wanted}"]
        raise _wrong(setting, text, *ways) from error
    except (SpecError, ValueError) as error:
        raise _wrong(setting, text, *_signatures(setting)) from error
    if term.name not in choices:
        raise _wrong(setting, text, *(difflib.get_close_matches(term.name, choices) or _signatures(setting)))
    options = choices[term.name]
    values = term.values or (options[VALUES].default if VALUES in options else ())
    given = {**term.arguments, **({VALUES: values} if values or VALUES in options else {})}
    for name, value in given.items():
        if name not in options:
            raise _wrong(setting, text, _signature(term.name, options))
        if not options[name].holds(value):
            raise _wrong(setting, text, f"{'' if name == VALUES else name + ' as '}{options[name].wanted}")
    if setting == "schedule" and (way := _clash(given)):
        raise _wrong(setting, text, way)
    filled = {name: option.read(given.get(name, option.default)) for name, option in options.items()}
    return Term(term.name, {name: value for name, value in filled.items() if name != VALUES}, filled.get(VALUES, ()))


def _clash(schedule: Mapping[str, Any]) -> str | None:
    """Say what to write instead of hyperparameters of a schedule that exclude each other."""
    if "batch" in schedule and "batches" in schedule:
        return "batch (rows of a shuffled mini-batch) or batches (their number, rows in order), not both"
    if "steps" in schedule and "batch" not in schedule:
        return "steps with batch, such as batch=32,steps=1"
    if "steps" in schedule and "epochs" in schedule:
        return "steps or epochs, not both"
    return None


def write(setting: str, term: Term) -> str:
    """Write a setting in canonical form, without defaults."""
    options = CHOICES[setting][term.name]
    kept = {name: value for name, value in term.arguments.items() if value != options[name].default}
    return str(Term(term.name, kept, term.values))


def canonical(setting: str, text: object) -> str:
    """Check a setting and write it in canonical form.

    Raises:
        SpecError: see `read`.
    """
    return write(setting, read(setting, text))


def spelled(setting: str, value: object) -> str:
    """Write the value of any setting as titles show it: a spec has its hyperparameters, also those that were left out.

    Those that are switched off and were not written, such as a momentum of 0, are left out.
    """
    if setting not in CHOICES or not isinstance(value, str):
        return str(value)
    term = read(setting, value)
    options = CHOICES[setting][term.name]
    off = {name for name, each in term.arguments.items() if not each and each == options[name].default}
    return str(Term(term.name, {name: each for name, each in term.arguments.items() if name not in off}, term.values))


def own_rate(schedule: str) -> float | None:
    """Return the default learning rate of a schedule's optimizer; `None` means the dataset's rate."""
    return OPTIMIZERS[read("schedule", schedule).name].rate


def without_rate(schedule: str) -> tuple[str, float | None]:
    """Split a schedule into the schedule without its learning rate, and that rate (`None` if it has none)."""
    term = read("schedule", schedule)
    rest = {name: value for name, value in term.arguments.items() if name != "rate"}
    return write("schedule", Term(term.name, rest)), term.arguments["rate"]


def _wrong(setting: str, text: object, *ways: str) -> SpecError:
    return SpecError(f"{setting} is {text!r}; write {' or '.join(ways)}")


def _signatures(setting: str) -> list[str]:
    return [_signature(name, options) for name, options in CHOICES[setting].items()]


def _signature(name: str, options: Mapping[str, Option]) -> str:
    """Write a form that can be typed, followed in brackets by the values that it leaves open."""
    inside = [
        option.example if key == VALUES else f"{key}={option.default!r}"
        for key, option in options.items()
        if option.default is not None
    ]
    form = f"{name}({', '.join(inside)})" if inside else name
    opened = [
        option.wanted if key == VALUES else f"{key}: {option.wanted}"
        for key, option in options.items()
        if key == VALUES or option.default is None
    ]
    return f"{form} ({', '.join(opened)})" if opened else form
