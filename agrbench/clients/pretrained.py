"""Image features from a published pretrained network, computed once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from agrbench import threads
from agrbench.clients.models import ResNet
from agrbench.data import files
from agrbench.data.cifar import Part
from agrbench.data.sources import File
from agrbench.machine import cores
from agrbench.progress import progress

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, with which the network was trained
WIDTH = 64
CHUNK = 125  # images at once, few enough for their maps to stay in the processor's cache
DIGEST = hashlib.sha256().digest_size


def of(part: Part, weights: File) -> tuple[Tensor, Tensor]:
    """Return the features `(rows, 64)` and the labels `(rows,)` of a batch, from the cache if possible.

    Raises:
        DataError: the batch or the network's file is damaged or missing.
    """
    path = files.cache() / "cifar10" / f"{part.name}-{part.sha256[:16]}-{weights.sha256[:16]}.features"
    table = recall(path)
    if table is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_suffix(".lock")):
            table = recall(path)  # another process may have written it meanwhile
            if table is None:
                table = compute(part, weights)
                keep(path, table)
    return table[:, :WIDTH], table[:, WIDTH].long()


def compute(part: Part, weights: File) -> Tensor:
    """Compute a batch's features, with its labels as the last column: `(rows, 65)`."""
    images, labels = part.read()
    return torch.column_stack([extract(network(weights), images, part.name), labels])


def network(weights: File) -> ResNet:
    """Load the published ResNet-56."""
    published = torch.load(files.fetch(weights), map_location="cpu", weights_only=True)["state_dict"]
    with torch.device("meta"):  # draw no weights, since they are about to be replaced
        module = ResNet(56, 3, 10, nn.BatchNorm2d)
    module.load_state_dict({name.removeprefix("module."): value for name, value in published.items()}, assign=True)
    return module.eval()


def extract(module: ResNet, images: Tensor, title: str) -> Tensor:
    """Compute the features `(rows, 64)` of images `(rows, 3, 32, 32)`, given as bytes, on all cores."""
    chunks = torch.split(images, CHUNK)
    # A cell's number of threads is fixed for its record's sake, but features do not depend on it.
    using = threads.using(min(cores(), len(chunks)))
    with using, torch.no_grad(), progress(f"features of {title}", len(chunks)) as report:
        found = []
        for chunk in chunks:
            found.append(module.features(normalise(chunk)))
            report(title)
    return torch.cat(found)


def normalise(images: Tensor) -> Tensor:
    """Scale bytes to the values that the network was trained on."""
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, DEVIATION))
    return (images / 255 - mean) / deviation


def recall(path: Path) -> Tensor | None:
    """Read a kept table `(rows, 65)`, with the labels last; return `None` if it is missing or damaged."""
    content = path.read_bytes() if path.is_file() else b""
    digest, table = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(table).digest() != digest:
        return None
    return torch.frombuffer(bytearray(table), dtype=torch.float32).view(-1, WIDTH + 1)


def keep(path: Path, table: Tensor) -> None:
    """Write a table after its digest; the file gets its name only once it is complete."""
    content = table.numpy().tobytes()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        part.write_bytes(hashlib.sha256(content).digest() + content)
        part.replace(path)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a file lock (none on Windows): processes computing the same on all cores would slow each other down."""
    with path.open("w") as stream:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
