"""Read a person's own table from Parquet and from numpy's .npz; rows are counted from 1."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agrbench.data.columns import Column, Table, of_flags, of_numbers, of_texts
from agrbench.data.roles import Roles
from agrbench.errors import DataError

BROKEN = (
    ValueError, EOFError, OSError, KeyError, NotImplementedError, RuntimeError, MemoryError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


def read_parquet(path: Path, roles: Roles) -> Table:
    """Read a Parquet file with pyarrow.

    Raises:
        DataError: pyarrow is not installed, the file is damaged, or a column holds lists, records or bytes.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path}: pyarrow reads Parquet files and is not installed; write pip install 'agrbench[parquet]'"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            kept = roles.columns(str(path), file.schema_arrow.names)
            found = file.read(columns=kept)
        columns = {name: _from_arrow(path, name, found.column(name)) for name in kept}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: it is no whole Parquet file ({_why(error)}); write it again") from error
    return Table(str(path), columns, np.arange(1, found.num_rows + 1))


def _from_arrow(path: Path, name: str, array: Any) -> Column:
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    kind = array.type
    if (
        types.is_nested(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
    ):
        raise DataError(
            f"{path}: column {name!r} holds {kind}, not a number or text a row; write drop=({name!r},) to leave it out"
        )
    if types.is_floating(kind) or types.is_decimal(kind):
        return of_numbers(array.cast(pyarrow.float64()).to_numpy())
    if types.is_integer(kind):
        return Column(array.fill_null(0).to_numpy(), array.is_null().to_numpy())
    return of_texts(["" if text is None else text for text in array.cast(pyarrow.string()).to_pylist()])


def read_npz(path: Path, roles: Roles) -> Table:
    """Read an .npz file: each array is a column, an array of two dimensions many, named `x[0]`, `x[1]` and so on.

    Raises:
        DataError: the file is damaged, or an array has no rows, other rows than the first, or Python objects.
    """
    arrays = _arrays(path, roles.drop)
    columns = {each: column for name, array in arrays.items() for each, column in _columns(path, name, array)}
    every = [each for name, array in arrays.items() for each in _names(name, array)]
    kept = roles.columns(str(path), [*every, *(name for name in roles.drop if name in _keys(path))])
    first = next(iter(arrays))
    for name, array in arrays.items():
        if len(array) != len(arrays[first]):
            raise DataError(
                f"{path}: array {name!r} has {len(array)} rows, and array {first!r} {len(arrays[first])}; save arrays "
                f"of equal length, or write drop=({name!r},)"
            )
    return Table(str(path), {name: columns[name] for name in kept}, np.arange(1, len(arrays[first]) + 1))


def _keys(path: Path) -> list[str]:
    """List the names of the arrays in an .npz file."""
    with _opened(path) as archive:
        return list(archive)


def _arrays(path: Path, drop: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read the arrays that are not left out, by name; pickled objects are never loaded."""
    with _opened(path) as archive:
        found = {name: _array(path, archive, name) for name in archive if name not in drop}
    for name, array in found.items():
        if not array.ndim:
            raise _unfit(path, name, "a single value without rows")
        if array.ndim > 2 and 0 in array.shape[1:]:
            raise _unfit(path, name, "no values")
    return found


def _array(path: Path, archive: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    try:
        return archive[name]
    except BROKEN as error:
        if "allow_pickle" in str(error):
            raise _unfit(path, name, "Python objects, which are not loaded because they may run code") from error
        raise _broken(path, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Open an .npz file, without loading pickled objects from it."""
    with path.open("rb") as stream:  # numpy would leave a damaged file open
        try:
            archive = np.load(stream, allow_pickle=False)
        except BROKEN as error:
            raise _broken(path, error) from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise _broken(path, ValueError("it holds one array without a name"))
        with archive:
            yield archive


def _names(name: str, array: NDArray[Any]) -> list[str]:
    return [f"{name}[{place}]" for place in range(array.shape[1])] if array.ndim == 2 else [name]


def _columns(path: Path, name: str, array: NDArray[Any]) -> Iterator[tuple[str, Column]]:
    """Yield one array's columns by name."""
    if array.dtype.kind == "b" and array.ndim > 1:
        array = array.view(np.uint8)
    parts = array.T if array.ndim == 2 else [array]
    for each, part in zip(_names(name, array), parts, strict=True):
        yield each, _from_numpy(path, name, part)


def _from_numpy(path: Path, name: str, array: NDArray[Any]) -> Column:
    kind = array.dtype.kind
    if kind in "iuf":
        return of_numbers(array)
    if kind == "b":
        return of_flags(array)
    if array.ndim > 1 or kind not in "USMm":
        raise _unfit(path, name, f"{array.dtype} values")
    try:
        texts = np.char.decode(array, "utf-8") if kind == "S" else array.astype(str)
    except UnicodeDecodeError as error:
        raise _unfit(path, name, "bytes that are not UTF-8") from error
    return of_texts(np.where(np.isnat(array), "", texts).tolist() if kind in "Mm" else texts.tolist())


def _unfit(path: Path, name: str, what: str) -> DataError:
    return DataError(
        f"{path}: array {name!r} holds {what}; save one number or text a row, or write drop=({name!r},) to leave it out"
    )


def _broken(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path}: it is no whole .npz file ({_why(error)}); write it again by numpy.savez")


def _why(error: BaseException) -> str:
    """Return the first sentence of another library's error."""
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
