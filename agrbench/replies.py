"""What the server of a real federation does with its clients' replies: it reads updates, and applies the stack's step.

The adapters `agrbench.flower` and `agrbench.nvflare` share this module, which knows no framework.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.layout import Layout, trained
from agrbench.server.checks import finite_rows
from agrbench.server.combine import combine_buffers
from agrbench.server.updates import Array, is_array, like, tensor
from agrbench.serving import Asked, Files, Server

Arrays = Mapping[str, Array]
"""A model as a framework sends it: numpy arrays or tensors by name."""

LONGEST = 160  # characters of a client's error
STATISTICS = ("running_mean", "running_var")  # how torch names the float buffers of its normalisation layers


@dataclass(frozen=True)
class Reply:
    """What a client sent: its model's arrays, or their `difference` from the global ones.

    `examples` is how many examples it claims; NaN if it claims nothing.
    """

    client: Hashable
    arrays: Arrays
    examples: float = math.nan
    difference: bool = False


@dataclass(frozen=True)
class Combined:
    """The result of a round: the next global model, whom the rule judged, and why others were left out.

    `weights` are those of the clients that were `kept`, and empty if the rule names none. If the round was skipped,
    `skipped` is the reason, and `arrays` are those of the round before.
    """

    arrays: Arrays
    kept: Sequence[Any] = ()
    weights: Mapping[Any, float] = field(default_factory=dict)
    left_out: Mapping[Any, str] = field(default_factory=dict)
    skipped: str = ""

    @property
    def metrics(self) -> dict[str, int | float]:
        """Return what a framework's metrics can hold of it."""
        counts = {"kept": len(self.kept), "rejected": len(self.left_out), "skipped": int(self.skipped != "")}
        return {**counts, **{f"weight-{client}": weight for client, weight in self.weights.items()}}


@dataclass(frozen=True)
class Parts:
    """Which arrays are judged, which are combined as buffers, and which copy another; the rest stays the server's."""

    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    layout: Layout
    tied: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, module: nn.Module) -> Parts:
        """Read the parts of a torch module's state dict."""
        parameters, state = trained(module), module.state_dict(keep_vars=True)
        names = {id(each): name for name, each in parameters.items()}
        tied = {name: names[id(each)] for name, each in state.items() if names.get(id(each), name) != name}
        floats = [name for name, each in state.items() if each.is_floating_point() and each.numel()]
        buffers = [name for name in floats if not isinstance(state[name], nn.Parameter)]
        return cls(tuple(parameters), tuple(buffers), Layout.of(module), tied)

    @classmethod
    def told_by(cls, arrays: Arrays, layout: Layout | None = None) -> Parts:
        """Guess the parts from names and shapes, as torch names and stores them."""
        read = {name: tensor(each) for name, each in arrays.items()}
        floats = [name for name, each in read.items() if each.is_floating_point() and each.numel()]
        buffers = tuple(name for name in floats if name.rpartition(".")[2] in STATISTICS)
        parameters = tuple(name for name in floats if name not in buffers)
        if not parameters:
            raise AgrbenchError("the global model has no arrays of floats; send a model's parameters")
        return cls(parameters, buffers, layout or Layout.of_stored(read[name].shape for name in parameters))


@dataclass(frozen=True)
class Model:
    """A global model: its arrays, and which parts they are.

    Raises:
        AgrbenchError: the arrays do not suit the parts.
    """

    arrays: Arrays
    parts: Parts

    def __post_init__(self) -> None:
        parts = self.parts
        lacking = [name for name in (*parts.parameters, *parts.buffers) if name not in self.arrays]
        if lacking:
            raise AgrbenchError(
                f"the global model has no array {lacking[0]!r}; send the state dict of the module given"
            )
        if len(self.parameters) != parts.layout.parameters:
            raise AgrbenchError(
                f"the global model has {len(self.parameters)} parameters, and the layout {parts.layout.parameters}; "
                "pass the module or the layout of the model that is sent"
            )

    @cached_property
    def parameters(self) -> Tensor:
        """Return the parameters as one vector: in float32 or, if one of them is, in float64."""
        return _flat(self.arrays, self.parts.parameters)

    @cached_property
    def buffers(self) -> Tensor:
        """Return the buffers as one vector."""
        return _flat(self.arrays, self.parts.buffers)

    def update(self, arrays: Arrays, difference: bool = False) -> tuple[Tensor, Tensor]:
        """Return the update `(parameters,)` that leads to other arrays, and their buffers.

        With `difference`, the arrays are what is added to the model's.

        Raises:
            ValueError, TypeError: an array is missing, or of another shape or type, or the update is not finite.
        """
        for name in (*self.parts.parameters, *self.parts.buffers):
            given, wanted = arrays.get(name), tuple(self.arrays[name].shape)
            if not is_array(given):
                raise ValueError(f"it has no array {name!r}")
            if not tensor(given).is_floating_point():
                raise ValueError(f"its {name!r} is of {given.dtype}, not of floats")
            if tuple(given.shape) != wanted:
                raise ValueError(f"its {name!r} is of shape {tuple(given.shape)}, and the model's of {wanted}")
        update, buffers = _flat(arrays, self.parts.parameters), _flat(arrays, self.parts.buffers)
        update, buffers = (update, self.buffers + buffers) if difference else (update - self.parameters, buffers)
        if not finite_rows(update.to(self.parameters)[None]).all():
            raise ValueError("its update is not finite")
        return update.to(self.parameters), buffers.to(self.buffers)

    def after(self, step: Tensor, buffers: Tensor) -> dict[str, Array]:
        """Return the arrays after a step, with these buffers, in their own types; all others stay."""
        written, parts = dict(self.arrays), self.parts
        for names, values in ((parts.parameters, self.parameters + step), (parts.buffers, buffers)):
            pieces = torch.split(values, [tensor(self.arrays[name]).numel() for name in names])
            for name, piece in zip(names, pieces, strict=True):
                own = self.arrays[name]
                written[name] = like(piece.reshape(own.shape), own)
        return written | {name: written[first] for name, first in parts.tied.items() if name in written}


class Federation:
    """A stack at work in a federation: it turns each round's replies into the next global model.

    Args:
        defense: the stack's spec.
        byzantine: the bound on malicious clients in a round; needed by rules that use it.
        module: the torch module whose state dict is sent; by default, names and shapes tell what is a parameter.
        layout: the layers, for models that torch did not store; not together with `module`.
        root: `root(arrays) -> arrays`, the server's own training on trusted data, for rules such as FLTrust.
        evaluate: `evaluate(arrays) -> (loss, accuracy)` on trusted data, for rules such as Fang's.
        seed: the seed of the stack's randomness.
        plugins: plugin files to load in addition to the shipped and installed ones.

    Raises:
        AgrbenchError: a spec, the bound or a plugin is at fault; the message says which.
    """

    def __init__(
        self,
        defense: str,
        byzantine: int | None = None,
        *,
        module: nn.Module | None = None,
        layout: Layout | None = None,
        root: Callable[[Arrays], Arrays] | None = None,
        evaluate: Callable[[Arrays], tuple[float, float]] | None = None,
        seed: int = 0,
        plugins: Files = (),
    ) -> None:
        self._serve = partial(Server, defense, byzantine, seed=seed, plugins=plugins)
        self._layout, self._root, self._evaluate = layout, root, evaluate
        self._parts = None if module is None else Parts.of(module)
        self._server = self._serve(layout=self._parts.layout if self._parts else layout)

    def combine(
        self, arrays: Arrays, replies: Sequence[Reply], left_out: Mapping[Hashable, str] | None = None
    ) -> Combined:
        """Combine the replies to a global model; `left_out` tells which clients sent nothing usable, and why.

        A malformed reply, or one that is not finite, is left out. The bound on malicious clients stays as it is, since
        an honest client may fail, too. If the stack is not defined for those that remain, the round is skipped. If the
        rule itself fails, this raises before the first combined round, and skips the round later on.

        Raises:
            AgrbenchError: the global model does not suit the module or the layout, or the rule lacks something.
        """
        model = self._model(arrays)
        out, heard, rows, buffers = dict(left_out or {}), [], [], []
        for reply in replies:
            try:
                update, held = model.update(reply.arrays, reply.difference)
            except (ValueError, TypeError) as error:
                out[reply.client] = str(error)
                continue
            heard.append(reply)
            rows.append(update)
            buffers.append(held)
        if not heard:
            return Combined(arrays, left_out=out, skipped="no reply remains")
        clients = [reply.client for reply in heard]
        out |= dict.fromkeys(self._server.excluded, "the rule has excluded it")
        try:
            outcome = self._server.decide(torch.stack(rows), clients, **self._asked(model, heard))
        except AgrbenchError as error:
            if not isinstance(error, Inapplicable) and not self._server.rounds:
                raise
            return Combined(arrays, left_out=out, skipped=str(error))
        after = combine_buffers(model.buffers, torch.stack(buffers), outcome.weights)
        told = zip(clients, outcome.weights.tolist(), strict=True) if outcome.named else ()
        return Combined(model.after(outcome.step, after), clients, dict(told), out)

    def _model(self, arrays: Arrays) -> Model:
        """Read the global model; without `module`, the first one tells the layout."""
        if self._parts is None:
            self._parts = Parts.told_by(arrays, self._layout)
            self._server = self._serve(layout=self._parts.layout)
        return Model(arrays, self._parts)

    def _asked(self, model: Model, heard: Sequence[Reply]) -> Asked:
        """Return what the rule may ask of this server."""
        asked: Asked = {
            "model": model.parameters,
            "sizes": torch.tensor([reply.examples for reply in heard], dtype=torch.float64),
        }
        root, evaluate = self._root, self._evaluate
        if root is not None:
            asked["root"] = lambda: _trusted(model, root(model.arrays))
        if evaluate is not None:

            def measured(rows: Tensor) -> tuple[Tensor, Tensor]:
                found = torch.tensor([evaluate(model.after(row, model.buffers)) for row in rows]).to(rows)
                return found[:, 0], found[:, 1]

            asked["evaluate"] = measured
        return asked


def short(text: str) -> str:
    """Write an error of a client's making in one line: its end, which says what happened."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"...{line[-LONGEST:]}"


def _flat(arrays: Arrays, names: Sequence[str]) -> Tensor:
    return torch.cat([torch.empty(0), *(tensor(arrays[name]).flatten() for name in names)])


def _trusted(model: Model, arrays: Arrays) -> Tensor:
    """Return the server's own update."""
    try:
        return model.update(arrays)[0]
    except (ValueError, TypeError) as error:
        raise AgrbenchError(f"root= returned no model: {error}; return arrays like those that it is given") from error
