"""The models by name, as builders that take an example's shape and the number of classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import prod

from torch import Tensor, nn
from torch.nn import functional

from agrbench import settings
from agrbench.errors import AgrbenchError

Builder = Callable[[tuple[int, ...], int], nn.Module]
"""`(shape of an example, classes) -> module`; the module maps `(rows, *shape)` to `(rows, classes)`."""

GROUPS = 8  # divides 16, 32 and 64 channels into groups of at least two


def named(model: str) -> Builder:
    """Return the builder that the setting `model` names, such as `mlp(512,1024)`."""
    term = settings.read("model", model)
    return MODELS[term.name](*term.values, **term.arguments)


def mlp(*hidden: int) -> Builder:
    """Return a builder of perceptrons with these hidden widths and ReLU between layers."""

    def build(shape: tuple[int, ...], classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for wide, narrow in pairwise((prod(shape), *hidden, classes)):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return build


def cnn(of: str = "mcmahan") -> Builder:
    """Return a builder of a paper's network of two convolutions: one of `CNNS`."""
    body, smallest = CNNS[of]

    def build(shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(*body(*image(shape, "cnn", smallest), classes))

    return build


def _mcmahan(channels: int, height: int, width: int, classes: int) -> list[nn.Module]:
    """List the layers of McMahan et al. (AISTATS 2017): 1,663,370 parameters for MNIST."""
    return [
        nn.Conv2d(channels, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * (height // 4) * (width // 4), 512), nn.ReLU(), nn.Linear(512, classes),
    ]  # fmt: skip


def _karimireddy(channels: int, height: int, width: int, classes: int) -> list[nn.Module]:
    """List the layers of Karimireddy, He and Jaggi (ICLR 2022) as in their code: 1,199,882 parameters for MNIST.

    No ReLU follows the second convolution. Their last layer, the logarithm of softmax, is part of the loss here.
    """
    return [
        nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.MaxPool2d(2), nn.Dropout2d(0.25), nn.Flatten(),
        nn.Linear(64 * ((height - 4) // 2) * ((width - 4) // 2), 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, classes),
    ]  # fmt: skip


def _byzfl(channels: int, height: int, width: int, classes: int) -> list[nn.Module]:
    """List the layers of ByzFL's `cnn_mnist`: 431,080 parameters for MNIST; log-softmax is part of the loss here."""
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    return [
        nn.Conv2d(channels, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(50 * rows * columns, 500), nn.ReLU(), nn.Linear(500, classes),
    ]  # fmt: skip


CNNS: dict[str, tuple[Callable[[int, int, int, int], list[nn.Module]], int]] = {
    "mcmahan": (_mcmahan, 4), "karimireddy": (_karimireddy, 6), "byzfl": (_byzfl, 16),
}  # fmt: skip
"""The layers of each `cnn`, and how many pixels a side it needs."""


def resnet(depth: int) -> Builder:
    """Return a builder of residual networks for small images (He et al., CVPR 2016, section 4.2).

    They use group normalisation (Wu and He, ECCV 2018) instead of batch normalisation, whose running statistics are not
    parameters, so no update carries them, and which degrades when clients' data differ (Hsieh et al., ICML 2020).

    Raises:
        AgrbenchError: the depth is not 6n + 2.
    """
    if depth < 8 or depth % 6 != 2:
        raise AgrbenchError(
            f"a resnet is 6n + 2 layers deep; given {depth!r}; write resnet(20), resnet(32) or resnet(56)"
        )

    def build(shape: tuple[int, ...], classes: int) -> nn.Module:
        channels, _, _ = image(shape, "resnet")
        return ResNet(depth, channels, classes, partial(nn.GroupNorm, GROUPS))

    return build


class ResNet(nn.Module):
    """A residual network for small images: three groups of blocks with 16, 32 and 64 channels.

    `norm(channels)` makes a normalisation layer. Modules keep their names in published checkpoints, whatever `norm` is.
    """

    def __init__(self, depth: int, channels: int, classes: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = norm(16)
        self.layer1 = _group(16, 16, blocks, norm)
        self.layer2 = _group(16, 32, blocks, norm)
        self.layer3 = _group(32, 64, blocks, norm)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Score images: `(rows, classes)`."""
        logits: Tensor = self.linear(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return the last layer's input, the mean of each of the last channels: `(rows, 64)`."""
        first = functional.relu(self.bn1(self.conv1(images)))
        maps: Tensor = self.layer3(self.layer2(self.layer1(first)))
        return maps.mean((2, 3))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut without parameters (option A): every `stride`-th pixel, new channels zero."""

    def __init__(self, before: int, after: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = norm(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = norm(after)
        self.stride, self.added = stride, after - before

    def forward(self, maps: Tensor) -> Tensor:
        """Transform `(rows, before, h, w)` into `(rows, after, h / stride, w / stride)`, rounded up."""
        residual = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(maps)))))
        return functional.relu(residual + self.shortcut(maps))

    def shortcut(self, maps: Tensor) -> Tensor:
        """Subsample the maps and pad them with zero channels, half before the old channels and half after."""
        ahead = self.added // 2
        kept = maps[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, ahead, self.added - ahead))


def image(shape: tuple[int, ...], model: str, smallest: int = 1) -> tuple[int, int, int]:
    """Read a shape as `(channels, height, width)`.

    Raises:
        AgrbenchError: it is not an image's shape, or a side is below `smallest` pixels.
    """
    if len(shape) != 3 or min(shape[1:]) < smallest:
        size = f" of at least {smallest} x {smallest} pixels" if smallest > 1 else ""
        raise AgrbenchError(
            f"{model} takes images (channels, height, width){size}; these examples are {shape}; write mlp(512)"
        )
    return shape[0], shape[1], shape[2]


def _group(before: int, after: int, blocks: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Chain blocks; if channels are added, the first block halves height and width."""
    first = ResidualBlock(before, after, 1 if before == after else 2, norm)
    return nn.Sequential(first, *(ResidualBlock(after, after, 1, norm) for _ in range(blocks - 1)))


MODELS: dict[str, Callable[..., Builder]] = {"mlp": mlp, "cnn": cnn, "resnet": resnet}
