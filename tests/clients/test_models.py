"""Models: what they are made of, what they accept, and that a federation can train them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from agrbench.clients import models
from agrbench.clients.models import Builder, ResidualBlock, ResNet, cnn, mlp, resnet
from agrbench.data import files
from agrbench.errors import AgrbenchError
from agrbench.layout import Layout

BUILDERS = {"mlp": mlp(5), "cnn": cnn(), "resnet": resnet(8)}
SHAPES = st.tuples(st.integers(1, 3), st.integers(4, 11), st.integers(4, 11))


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def gradients(module: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(nn.functional.cross_entropy(module(images), labels), list(module.parameters()))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Sizes


def test_cnn_has_the_published_number_of_parameters_for_mnist() -> None:
    assert size(cnn()((1, 28, 28), 10)) == 1_663_370


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_resnets_have_the_published_numbers_of_parameters(depth: int, millions: float) -> None:
    """Compare with Table 6 of He et al. (CVPR 2016)."""
    count = size(resnet(depth)((3, 32, 32), 10)) / 1e6
    assert round(count, 1 if millions > 1 else 2) == millions


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_a_resnet_has_as_many_weight_layers_as_its_depth_says(depth: int) -> None:
    layers = [m for m in resnet(depth)((3, 32, 32), 10).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth


# Shapes


@pytest.mark.parametrize("name", BUILDERS)
@given(shape=SHAPES, classes=st.integers(2, 12), rows=st.integers(1, 3))
def test_every_model_scores_every_class_of_images_of_any_size(
    name: str, shape: tuple[int, int, int], classes: int, rows: int
) -> None:
    module = BUILDERS[name](shape, classes)
    scores = module(random(rows, *shape))
    assert scores.shape == (rows, classes)
    assert scores.isfinite().all()


@pytest.mark.parametrize("build", [cnn(), resnet(8)], ids=["cnn", "resnet"])
@pytest.mark.parametrize("shape", [(446,), (28, 28), (1, 1, 28, 28), ()])
def test_what_is_no_image_is_refused_with_a_sentence(build: Builder, shape: tuple[int, ...]) -> None:
    with pytest.raises(AgrbenchError, match=r"takes images \(channels, height, width\).* write mlp\(512\)") as refused:
        build(shape, 10)
    assert str(shape) in str(refused.value)


@pytest.mark.parametrize("shape", [(1, 3, 8), (1, 8, 3)])
def test_images_that_two_poolings_leave_nothing_of_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AgrbenchError, match="at least 4 x 4 pixels"):
        cnn()(shape, 10)


@pytest.mark.parametrize("depth", [-4, 0, 2, 7, 18, 34, 57])
def test_a_depth_that_is_not_6n_plus_2_is_refused_with_depths_that_are(depth: int) -> None:
    with pytest.raises(AgrbenchError, match=rf"6n \+ 2 .* given {depth}; write resnet\(20\)"):
        resnet(depth)


# Training in a federation


@pytest.mark.parametrize("name", BUILDERS)
def test_all_that_a_model_learns_is_in_its_parameters_and_the_layout_holds_them_all(name: str) -> None:
    module = BUILDERS[name]((3, 8, 8), 10)
    assert not list(module.buffers())
    assert Layout.of(module).parameters == size(module)
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("name", BUILDERS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    module = BUILDERS[name]((3, 8, 8), 10)
    for gradient in gradients(module, random(6, 3, 8, 8), torch.arange(6)):
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", BUILDERS)
def test_gradients_of_clients_side_by_side_are_their_gradients_one_by_one(name: str) -> None:
    torch.manual_seed(0)
    module = BUILDERS[name]((3, 8, 8), 10)
    parameters = {key: value.detach() for key, value in module.named_parameters()}
    features, labels = random(3, 4, 3, 8, 8), torch.arange(12).view(3, 4) % 10

    def loss(values: dict[str, Tensor], images: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(module, values, (images,)), targets)

    together: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, features, labels)
    for client in range(3):
        alone = gradients(module, features[client], labels[client])
        for key, gradient in zip(parameters, alone, strict=True):
            assert torch.allclose(together[key][client], gradient, rtol=1e-3, atol=1e-5), key


@pytest.mark.parametrize("name", BUILDERS)
def test_a_row_s_scores_do_not_depend_on_the_other_rows(name: str) -> None:
    """A resnet that normalised batches would fail."""
    module = BUILDERS[name]((3, 8, 8), 10).train()
    images = random(5, 3, 8, 8)
    assert torch.allclose(module(images)[:1], module(images[:1]), atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_a_few_steps_of_gradient_descent_fit_a_few_images(name: str) -> None:
    torch.manual_seed(0)
    module, images, labels = BUILDERS[name]((1, 8, 8), 4), random(8, 1, 8, 8), torch.arange(8) % 4
    for _ in range(60):
        steps = gradients(module, images, labels)
        with torch.no_grad():
            for parameter, step in zip(module.parameters(), steps, strict=True):
                parameter.sub_(step, alpha=0.1)
    assert (module(images).argmax(1) == labels).all()


# The residual network, against oracles


def padded(maps: Tensor, before: int, after: int, stride: int) -> Tensor:
    """Write the shortcut of option A out, pixel by pixel: half the new channels ahead of the old ones."""
    rows, _, height, width = maps.shape
    out = torch.zeros(rows, after, -(-height // stride), -(-width // stride))
    for channel in range(before):
        for y in range(0, height, stride):
            for x in range(0, width, stride):
                out[:, channel + (after - before) // 2, y // stride, x // stride] = maps[:, channel, y, x]
    return out


@pytest.mark.parametrize(("before", "after", "stride"), [(16, 16, 1), (16, 32, 2), (32, 64, 2)])
@pytest.mark.parametrize("sides", [(8, 8), (7, 5), (1, 1)])
def test_a_block_whose_convolutions_are_zero_is_its_shortcut(
    before: int, after: int, stride: int, sides: tuple[int, int]
) -> None:
    block = ResidualBlock(before, after, stride, lambda channels: nn.Identity())
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    maps = random(2, before, *sides).abs()
    assert torch.equal(block(maps), padded(maps, before, after, stride))


def test_the_shortcut_has_no_parameters() -> None:
    names = {name for name, _ in ResidualBlock(16, 32, 2, nn.BatchNorm2d).named_parameters()}
    assert names == {"conv1.weight", "conv2.weight", "bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias"}


def checkpoint(depth: int, name: str) -> dict[str, Tensor]:
    """Read the published weights of a network, if they are at hand."""
    path = Path(os.environ.get(files.FOLDER, "")) / "cifar10-resnet-weights" / name
    if not path.is_file():
        pytest.skip(f"the published resnet of depth {depth} is not at hand")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return {key.removeprefix("module."): value for key, value in content["state_dict"].items()}


def scored(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Apply published weights in double precision, from their names alone: blocks in order, statistics as stored."""
    state = {key: value.double() for key, value in state.items()}

    def normalised(maps: Tensor, name: str) -> Tensor:
        mean, spread, gain, shift = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / (spread + 1e-5).sqrt() * gain + shift

    maps = normalised(nn.functional.conv2d(images, state["conv1.weight"], padding=1), "bn1").clamp(min=0)
    blocks = list(dict.fromkeys(key.rsplit(".", 2)[0] for key in state if key.startswith("layer")))
    for block in blocks:
        first, second = state[f"{block}.conv1.weight"], state[f"{block}.conv2.weight"]
        stride = 2 if block in ("layer2.0", "layer3.0") else 1
        inside = normalised(nn.functional.conv2d(maps, first, stride=stride, padding=1), f"{block}.bn1").clamp(min=0)
        inside = normalised(nn.functional.conv2d(inside, second, padding=1), f"{block}.bn2")
        maps = (inside + padded(maps, first.shape[1], first.shape[0], stride)).clamp(min=0)
    return maps.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


@pytest.mark.parametrize(("depth", "name"), [(20, "resnet20-12fca82f.th"), (56, "resnet56-4bfd9763.th")])
def test_published_weights_load_strictly_and_score_as_an_independent_network_does(depth: int, name: str) -> None:
    state = checkpoint(depth, name)
    module = ResNet(depth, 3, 10, nn.BatchNorm2d)
    module.load_state_dict(state, strict=True)
    images = random(3, 3, 32, 32)
    expected = scored(state, images.double())
    assert torch.allclose(module.eval()(images).double(), expected, atol=1e-3)
    assert expected.std() > 1


def test_features_are_what_the_last_layer_reads() -> None:
    module = ResNet(8, 3, 10, nn.BatchNorm2d).eval()
    images = random(3, 3, 32, 32)
    features = module.features(images)
    assert features.shape == (3, 64)
    assert torch.equal(module.linear(features), module(images))


def test_every_model_has_its_builder_under_its_name() -> None:
    assert {name: make.__name__ for name, make in models.MODELS.items()} == {name: name for name in BUILDERS}
