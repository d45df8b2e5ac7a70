"""Randomness: one stream for each purpose, round and client, the same every time."""

from __future__ import annotations

import torch

from agrbench.randomness import generator


def test_randomness_differs_by_purpose_round_and_client_and_repeats() -> None:
    draws = {
        float(torch.rand((), generator=generator(seed, purpose, number, client)))
        for seed in (0, 1)
        for purpose in ("split", "model")
        for number in (0, 1)
        for client in (0, 1)
    }
    assert len(draws) == 16
    again = [torch.rand(3, generator=generator(1, "split", 2, 3)) for _ in range(2)]
    assert torch.equal(*again)
