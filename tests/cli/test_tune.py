"""`agrbench tune`: every rate with the best marked, and mistakes refused before any run."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from agrbench.cli import main
from tests.helpers import plugins


def test_the_command_prints_every_rate_and_marks_the_best() -> None:
    done = CliRunner().invoke(
        main,
        [
            "tune",
            "digits",
            "--jobs",
            "1",
            "--clients",
            "5",
            "--rounds",
            "10",
            "--rate",
            "0.001",
            "--rate",
            "0.5",
            "--seeds",
            "2",
        ],
    )
    assert done.exit_code == 0
    assert "Learning rates: digits, 5 clients, 10 rounds, 2 seeds\n" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines if line and line[0][0] == "0"] == ["0.001", "0.5"]
    assert next(line for line in lines if line[:1] == ["0.5"])[1] == "*"


def test_where_no_rate_is_stable_none_is_marked_and_the_exit_code_is_1() -> None:
    words = "tune digits --jobs 1 --clients 5 --rounds 40 --start 10 --rate 5 --seeds 1"
    done = CliRunner().invoke(main, words.split(" "))
    assert done.exit_code == 1
    assert "No rate is stable; try lower ones." in done.stdout
    assert "*" not in done.stdout


def test_an_unknown_dataset_is_refused() -> None:
    done = CliRunner().invoke(main, ["tune", "digit"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "did you mean digits" in done.stderr


def test_wrong_rates_are_refused_before_any_run() -> None:
    done = CliRunner().invoke(main, ["tune", "digits", "--rounds", "10", "--rate", "0.2", "--rate", "-1"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "rate is -1.0; write a number above 0" in done.stderr


def test_a_schedule_that_names_a_rate_is_refused() -> None:
    done = CliRunner().invoke(main, ["tune", "digits", "--schedule", "sgd(rate=0.7)"])
    assert done.exit_code == 2
    assert "write the rates to try as --rate" in done.stderr


def test_what_was_tried_is_printed_when_a_later_rate_fails(tmp_path: Path) -> None:
    path = plugins.write(
        tmp_path,
        "frail",
        """
        from agrbench.datasets import digits
        from agrbench.clients.models import mlp
        from agrbench.plugins import Dataset, Source
        built = []
        def model(shape, classes):
            built.append(shape)
            if len(built) > 1:
                raise RuntimeError('broken')
            return mlp(8)(shape, classes)
        dataset = Dataset(digits.load, model=model, rate=0.5, root_size=100, source=Source('CC BY 4.0'))
        """,
    )
    words = [
        "tune",
        "frail",
        "--jobs",
        "1",
        "--plugin",
        str(path),
        "--clients",
        "5",
        "--rounds",
        "10",
        "--rate",
        "0.1",
        "--rate",
        "0.5",
        "--seeds",
        "1",
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "\n0.1 *" in done.stdout
    assert "frail.py: model raised RuntimeError: broken" in done.stderr
