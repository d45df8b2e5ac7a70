"""Tables as one reads them."""

from agrbench.results.formats import Entry, Table


def headers(made: Table) -> list[str]:
    return [header.replace("\n", " ") for header in made.headers]


def row(made: Table, first: str) -> dict[str, Entry]:
    """Find a row of a table by its first entry, under the headers."""
    (found,) = [row for row in made.rows if row[0].lines[0] == first]
    return dict(zip(headers(made), found, strict=True))
