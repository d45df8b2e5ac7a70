"""Write charts into files: SVG, PNG and PDF by vl-convert, or a page of HTML that needs no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agrbench.errors import AgrbenchError
from agrbench.results import text
from agrbench.results.figures.sizes import EXTRA, INCH
from agrbench.results.writing import write_whole, writing

DOTS = 300  # an inch, in PNG
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ margin: 1rem; }} #figure svg {{ zoom: 2; max-width: 100%; height: auto; }}</style>
</head>
<body>
<div id="figure"></div>
<script>
{bundle}
</script>
<script>
const actions = {{export: true, source: false, compiled: false, editor: false}};
vegaEmbed("#figure", {spec}, {{renderer: "svg", actions: actions}});
</script>
</body>
</html>
"""


def save(chart: Any, path: Path) -> None:
    """Write a chart in the format that the file's name ends in.

    Raises:
        AgrbenchError: there is no such format, vl-convert is not installed, or the file cannot be written.
    """
    check(path)
    write = FORMATS[_ending(path)]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, write(text.whole(chart.to_dict())))


def check(path: Path) -> None:
    """Check that a figure can be written into a file of this name.

    Raises:
        AgrbenchError: there is no format of its ending.
    """
    if _ending(path) not in FORMATS:
        ways = ", ".join(f".{form}" for form in FORMATS)
        raise AgrbenchError(f"{path}: no figure ends in {path.suffix or 'nothing'}; write a name that ends in {ways}")


def _ending(path: Path) -> str:
    return path.suffix.removeprefix(".").lower()


def _convert() -> Any:
    try:
        import vl_convert
    except ModuleNotFoundError as error:
        raise AgrbenchError(EXTRA) from error
    return vl_convert


def _svg(spec: dict[str, Any]) -> str:
    return str(_convert().vegalite_to_svg(spec)) + "\n"


def _png(spec: dict[str, Any]) -> bytes:
    return bytes(_convert().vegalite_to_png(spec, scale=DOTS / INCH, ppi=INCH))


def _pdf(spec: dict[str, Any]) -> bytes:
    return bytes(_convert().vegalite_to_pdf(spec))


def _html(spec: dict[str, Any]) -> str:
    """Write a page with all code in it; no text of the chart can end its script."""
    written = json.dumps(spec).replace("<", r"\u003c")
    title = text.html(" ".join(spec["title"]["text"]))
    return PAGE.format(title=title, bundle=_convert().javascript_bundle(), spec=written)


FORMATS: Mapping[str, Callable[[dict[str, Any]], str | bytes]] = {
    "svg": _svg, "png": _png, "pdf": _pdf, "html": _html,
}  # fmt: skip
