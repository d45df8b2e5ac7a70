"""Text that others wrote, made safe to print: on a terminal, and in Markdown, HTML, LaTeX, CSV and JSON."""

from __future__ import annotations

import codecs
import io
import re
import sys
import unicodedata
from html import escape
from typing import Any

LINES = "\n"  # a message may have several lines; whatever else it quotes is made printable
FORMULAS = ("=", "+", "-", "@")  # how a cell begins that a spreadsheet would compute, after any blanks
LATEX = str.maketrans(
    {letter: rf"\{letter}" for letter in "_%&#{}$"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}"}
    | {"†": r"$\dagger$", "‡": r"$\ddagger$", "±": r"$\pm$", "—": "---"}
)
PLAINER = dict(zip("▁▂▃▄▅▆▇█†‡—\u00d7±", "_.:-=+*#+*-x~", strict=True))  # for poorer encodings
MARKDOWN = str.maketrans({"\\": r"\\", "|": r"\|", "`": r"\`"})
TAG = re.compile(r"<(?=[A-Za-z/!?])")


def tolerate(stream: object) -> None:
    """Let a stream write a plainer character for each one that its encoding lacks, instead of an error."""
    codecs.register_error("agrbench.plainer", _plainer)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="agrbench.plainer")


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAINER.get(each, "?") for each in error.object[error.start : error.end]), error.end


def warn_on_stderr(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one sentence, made printable; it is what `warnings.showwarning` may be set to."""
    print(f"Warning: {printable(str(message), keep=LINES)}", file=sys.stderr)


def printable(text: str, keep: str = "") -> str:
    r"""Write whatever cannot be printed as an escape, such as `\x1b`, except the characters to `keep`.

    This covers control characters, bidirectional controls, invisible characters and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(each if each in keep or _shows(each) else _escape(each) for each in text)


def one_line(text: str) -> str:
    """Make a text printable, with a space for each line break and tab."""
    return text if text.isprintable() else printable("".join(" " if each.isspace() else each for each in text))


def markdown(text: str) -> str:
    """Write a text as one line of Markdown that shows it: no HTML, link, picture, code or column begins in it."""
    escaped = TAG.sub("&lt;", one_line(text).translate(MARKDOWN))
    return escaped.replace("](", r"]\(").replace("![", r"!\[")


def html(text: str) -> str:
    """Write a text as one line of HTML that shows it."""
    return escape(one_line(text))


def code(text: str) -> str:
    """Write a text as code in a Markdown table."""
    text = one_line(text)
    if not set(text) & set("`\\|"):
        return f"`{text}`"
    entities = {ord(each): f"&#{ord(each)};" for each in r"`\|*_[]"}
    return f"<code>{escape(text).translate(entities)}</code>"


def latex(text: str) -> str:
    """Write a text as one line of LaTeX that shows it."""
    return one_line(text).translate(LATEX)


def cell(value: Any) -> Any:
    """Return a value as a CSV cell: text is printable, and what a spreadsheet takes for a formula begins with `'`."""
    if not isinstance(value, str):
        return value
    text = printable(value, keep="\n\t")
    return f"'{text}" if text.lstrip().startswith(FORMULAS) else text


def whole(value: Any) -> Any:
    """Replace lone surrogates, which no encoding can hold, in all text of a JSON value."""
    if isinstance(value, dict):
        return {whole(key): whole(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(each) for each in value]
    return _without_surrogates(value) if isinstance(value, str) else value


def _shows(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _without_surrogates(text: str) -> str:
    return text if text.isascii() else "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text)
