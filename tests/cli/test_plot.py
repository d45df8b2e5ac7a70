"""`agrbench plot`: every format, what it chooses, and how it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import agrbench
from agrbench.errors import AgrbenchError
from agrbench.results import metrics
from agrbench.results.figures import KINDS, drawing
from tests.helpers.commands import ask, invoke
from tests.helpers.figures import drawn
from tests.helpers.records import fill
from tests.helpers.triad import everything

BEGINS = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF", "html": b"<!DOCTYPE html>"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "records", everything())


@pytest.mark.parametrize("form", BEGINS)
def test_a_figure_is_written_as_its_name_ends(form: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / f"figure.{form}"
    done = invoke("plot", "bars", folder, "--out", out)
    assert out.read_bytes().startswith(BEGINS[form])
    assert done.output == f"{out} written\n"


def test_a_figure_is_as_wide_as_a_column(folder: Path, tmp_path: Path) -> None:
    """A point of the PDF is a pixel of the SVG; what little is added is a margin."""
    for kind in ("bars", "curves", "heatmap", "pareto"):
        for inches in (3.3, 6.9):
            out = tmp_path / f"{kind}.svg"
            invoke("plot", kind, folder, "--width", inches, "--out", out)
            wide = re.search(r'<svg[^>]* width="([\d.]+)"', out.read_text())
            assert wide is not None
            assert abs(float(wide[1]) / 72 - inches) < 0.25, kind


def test_a_page_asks_for_nothing_and_no_name_ends_its_script(folder: Path, tmp_path: Path) -> None:
    chart = agrbench.plot.bars(folder).properties(title={"text": ["</script><b>"], "subtitle": [""]})
    agrbench.plot.save(chart, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("</script>") == 2
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"<script|<link|src=|href=|url\(", markup)
    assert "<title>&lt;/script&gt;&lt;b&gt;</title>" in page


def test_the_options_choose_records(folder: Path, tmp_path: Path) -> None:
    done = ask("plot", "heatmap", folder, "-D", "synthetic", "--out", tmp_path / "a.svg")
    assert done.exit_code == 2
    assert "no finished record there that this figure can draw; run `agrbench grid` first" in done.output
    invoke("plot", "heatmap", folder, "-a", "label_flip", "--only-base", "-d", "krum", "--out", tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "label_flip" in text
    assert "gradient_ascent" not in text
    assert "amp+" not in text


def test_a_kind_or_a_format_that_there_is_not_is_refused(folder: Path, tmp_path: Path) -> None:
    done = ask("plot", "pie", folder, "--out", tmp_path / "a.svg")
    assert (done.exit_code, done.output) == (
        2, f"Error: there is no figure 'pie'; write agrbench plot {', '.join(KINDS)}\n"
    )  # fmt: skip
    for name in ("a.gif", "a"):
        done = ask("plot", "bars", "nowhere", "--out", tmp_path / name)
        assert done.exit_code == 2
        assert "write a name that ends in .svg, .png, .pdf, .html" in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("curves", "nowhere"), "no such folder"),
        (("breaking", "records"), "run `agrbench breaking-point` first"),
        (("views",), "no file is named; write SNAPSHOT.npz"),
        (("cost",), "no file is named; write BENCH.json"),
        (("cost", "nowhere.json"), "nowhere.json"),
        (("views", "nowhere.npz"), "write one with agrbench snapshot"),
        (("sweep", "records", "--over", "clients"), "--over clients: the records have one value of it"),
        (("curves", "records", "--metric", "success"), "no finished record there that this figure can draw"),
    ],
)
def test_what_cannot_be_drawn_ends_in_a_sentence(
    words: tuple[str, ...], told: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ask("plot", *words, "--out", "a.svg")
    assert done.exit_code == 2
    assert done.output.startswith("Error: ")
    assert told in done.output
    assert not Path("a.svg").exists()


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_without_the_extra_it_is_said_what_to_install(
    missing: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("agrbench.results.figures.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    done = ask("plot", "bars", folder, "--out", tmp_path / "a.svg")
    assert done.exit_code == 2
    assert "write pip install 'agrbench[page]'" in done.output
    if missing == "altair":
        with pytest.raises(AgrbenchError, match=r"agrbench\[page\]"):
            agrbench.plot.bars(folder)


def test_altair_is_imported_only_to_draw() -> None:
    code = "import sys, agrbench.cli; agrbench.plot.bars; sys.exit('altair' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_are_drawn_and_never_obeyed(tmp_path: Path) -> None:
    """Control characters are written out, and a name is text wherever it stands."""
    records = [record for record in everything() if record["cell"]["defense"] in ("fedavg", "krum")]
    for record in records:
        if record["cell"]["defense"] == "krum":
            record["cell"] = {**record["cell"], "defense": "krum(name='<b>\x1b</b>')"}
    chart = drawing("bars")(metrics.groups(records))
    assert r"krum(name='<b>\x1b</b>')" in {row["defense"] for row in drawn(chart, "value")}
    agrbench.plot.save(chart, tmp_path / "a.svg")
    assert "<b>" not in (tmp_path / "a.svg").read_text()
