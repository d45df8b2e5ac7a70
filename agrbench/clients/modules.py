"""The learner of any `torch.nn.Module`: parameters that are trained, buffers, and random layers (docs/models.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import functional_call

from agrbench.clients.scoring import gradients, measure
from agrbench.data.examples import Batch, Examples
from agrbench.errors import AgrbenchError
from agrbench.layout import Layout, trained

BUDGET = 1 << 26  # bytes of activations that one backward pass may keep


class Functional:
    """Any module as a function of a flat vector: its trained parameters, one after the other.

    Frozen parameters and integer buffers stay as they were built. Clients take turns: the module holds the parameters
    and buffers while it is called, and `vmap` would make clients with different weights groups of one convolution, far
    slower on a CPU.

    Raises:
        AgrbenchError: it is no module, or its parameters cannot be one vector; the message says what to write.
    """

    apart = False

    def __init__(self, module: nn.Module) -> None:
        _check(module)
        self.module = module
        self.layout = Layout.of(module)
        pieces = trained(module)
        self._shapes = {name: parameter.shape for name, parameter in pieces.items()}
        self.initial = torch.cat([parameter.detach().flatten() for parameter in pieces.values()])
        self._frozen = {name: each for name, each in module.named_parameters() if name not in pieces}
        self._held = list(_held(module))
        floats = [buffer for _, _, buffer in self._held if buffer.is_floating_point()]
        self.buffers = torch.cat([self.initial.new_empty(0), *(each.flatten().to(self.initial) for each in floats)])
        self.random = False  # until a trial shows that training draws random numbers
        self.coupled = {True: False, False: False}  # until a trial shows that rows depend on each other, by mode
        self._row_bytes = cache(self._measured)

    def prepared(self, batch: Batch) -> Batch:
        """See `Learner.prepared`."""
        return batch._replace(share=batch.share.to(self.initial.dtype))

    def gradients(
        self, parameters: Tensor, out: Tensor, scale: float = 1.0, buffers: Tensor | None = None
    ) -> Callable[..., Tensor]:
        """See `Learner.gradients`."""
        models = parameters.expand(len(out), -1)
        kept = self.buffers.to(out.device).repeat(len(out), 1) if buffers is None else buffers

        def work(batch: Batch, seeds: Sequence[int] = ()) -> Tensor:
            for place, mine in enumerate(out.zero_()):
                features, labels, share = (each[place] for each in batch[:3])
                with seeded(seeds[place], out.device) if seeds else nullcontext():
                    for rows in self._chunks(batch.sizes[place], features, training=True):
                        gradient = self._gradient(models[place], kept[place], features[rows], labels[rows], share[rows])
                        mine.add_(gradient, alpha=scale)
            return out

        return work

    def differentiate(self, model: Tensor, features: Tensor, labels: Tensor, buffers: Tensor | None = None) -> Tensor:
        """See `Learner.differentiate`; the module is in its evaluation mode, in which no row depends on others."""
        self.module.eval()
        with self._holding(self.buffers.to(model.device) if buffers is None else buffers):
            return gradients(
                lambda parameters, rows: functional_call(self.module, self._named(parameters), (rows,)),
                model, features, labels,
            )  # fmt: skip

    def logits(self, parameters: Tensor, features: Tensor, buffers: Tensor | None = None) -> Tensor:
        """See `Learner.logits`."""
        kept = self.buffers.to(features.device) if buffers is None else buffers
        chunks = self._chunks(len(features), features, training=False)
        with torch.no_grad(), seeded(0, features.device):
            return torch.cat([self.score(parameters, kept, features[rows], training=False) for rows in chunks])

    def evaluate(
        self, model: Tensor, updates: Tensor, examples: Examples, buffers: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Learner.evaluate`."""
        parts = [
            measure(self.logits(model + row, examples.features, buffers)[None], examples.labels) for row in updates
        ]
        losses, accuracies = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(accuracies)

    def score(self, parameters: Tensor, buffers: Tensor, features: Tensor, training: bool) -> Tensor:
        """Call the module in training or evaluation mode; in training, its float buffers are written to `buffers`."""
        self.module.train(training)
        with self._holding(buffers, keep=training):
            logits: Tensor = functional_call(self.module, self._named(parameters), (features,))
        return logits

    def observe(self, two: Tensor) -> None:
        """Find out from two examples whether training draws random numbers, and whether rows depend on each other."""
        self.random = self.draws(two, training=True)
        for training in (True, False):
            with seeded(0, two.device):
                together = self._trial(two, training)
            with seeded(0, two.device):
                twice = self._trial(torch.stack([two[0], two[0]]), training)
            self.coupled[training] = not torch.equal(together[0], twice[0])

    def draws(self, features: Tensor, training: bool) -> bool:
        """Return whether calling the module draws from torch's global generator."""
        with seeded(0, features.device):
            before = _random_state(features.device)
            self._trial(features, training)
            return not torch.equal(_random_state(features.device), before)

    def _trial(self, features: Tensor, training: bool) -> Tensor:
        with torch.no_grad():
            initial, buffers = (each.to(features.device, copy=True) for each in (self.initial, self.buffers))
            return self.score(initial, buffers, features, training)

    def _gradient(self, model: Tensor, buffers: Tensor, features: Tensor, labels: Tensor, share: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = model.detach().requires_grad_()
            losses = nn.functional.cross_entropy(self.score(leaf, buffers, features, True), labels, reduction="none")
            (gradient,) = torch.autograd.grad((losses * share).sum(), leaf)
        return gradient

    def _named(self, parameters: Tensor) -> dict[str, Tensor]:
        """Name the pieces of a flat vector, and the frozen parameters, which are moved to the vector's device."""
        pieces = torch.split(parameters, [shape.numel() for shape in self._shapes.values()])
        named = {name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)}
        if self._frozen and parameters.device != self.initial.device:
            return named | {name: each.to(parameters.device) for name, each in self._frozen.items()}
        return named

    @contextmanager
    def _holding(self, flat: Tensor, keep: bool = False) -> Iterator[None]:
        """Put buffers into the module, float ones from `flat` and others as built, and take all out again.

        A module may write into a buffer or replace it; with `keep`, either ends up in `flat`.
        """
        place, lent = 0, []
        for owner, name, built in self._held:
            if built.is_floating_point():
                piece = flat[place : place + built.numel()].view(built.shape)
                place += built.numel()
                lent.append((owner, name, piece))
                owner._buffers[name] = piece.to(built.dtype, copy=not keep)
            else:
                owner._buffers[name] = built.to(flat.device, copy=True)
        try:
            yield
            for owner, name, piece in lent if keep else ():
                now = owner._buffers[name]
                if now is not piece and now is not None:
                    piece.copy_(now.detach())
        finally:
            for owner, name, built in self._held:
                owner._buffers[name] = built

    def _chunks(self, rows: int, features: Tensor, training: bool) -> list[slice]:
        """Cut rows into stretches whose activations fit the memory budget, unless rows depend on each other."""
        if self.coupled[training]:
            return [slice(0, rows)]
        step = max(BUDGET // self._row_bytes(features.shape[1:], features.dtype), 1)
        return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]

    def _measured(self, shape: torch.Size, dtype: torch.dtype) -> int:
        """Measure how many bytes one more example adds to what a backward pass keeps."""
        kept = [0, 0]
        for more in (0, 1):

            def note(tensor: Tensor, more: int = more) -> Tensor:
                kept[more] += tensor.numel() * tensor.element_size()
                return tensor

            examples = torch.zeros(2 + more, *shape, dtype=dtype, device=self.initial.device)
            with (
                torch.enable_grad(),
                seeded(0, examples.device),
                torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            ):
                self.score(self.initial.detach().requires_grad_(), self.buffers.clone(), examples, training=True)
        return max(kept[1] - kept[0], 1)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let modules draw from a generator of their own, and put the global ones back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _held(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """List each buffer once: the module that owns it, its name there, and its value as built."""
    seen = set[int]()
    for owner in module.modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None and id(buffer) not in seen:
                seen.add(id(buffer))
                yield owner, name, buffer


def _check(module: object) -> None:
    """Refuse what cannot be a learner, with what to write instead."""
    if not isinstance(module, nn.Module):
        raise AgrbenchError(f"the model is a {type(module).__name__}; return a torch.nn.Module")
    pieces = trained(module)
    if not pieces:
        raise AgrbenchError("the model has no parameter to train; leave requires_grad=True on some")
    kinds = {parameter.dtype: name for name, parameter in pieces.items()}
    if len(kinds) > 1:
        mixed = ", ".join(f"{name} is {dtype}" for dtype, name in kinds.items())
        raise AgrbenchError(f"the model's parameters are of several types ({mixed}); convert it to one, as by .float()")
    if not next(iter(kinds)).is_floating_point:
        raise AgrbenchError(f"the model's parameters are {next(iter(kinds))}; use real floating-point numbers")
