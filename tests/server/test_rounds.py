"""What a round hands to a rule or an attack: fields computed when they are first read, and once."""

from __future__ import annotations

import pytest
import torch

from agrbench.clients.insider import Insider
from agrbench.errors import AgrbenchError
from agrbench.server.rounds import Server
from tests.helpers.counted import Counted


def test_a_lazy_field_is_computed_when_first_read_and_once() -> None:
    counted, other = Counted(), Counted()
    server, another = Server(model=counted, previous=counted), Server(model=other)
    assert (counted.times, other.times) == (0, 0)
    assert server.model is server.model
    assert torch.equal(server.model, counted())
    assert (counted.times, other.times) == (2, 0)
    assert another.model is not server.model
    assert (counted.times, other.times) == (2, 1)


def test_a_lazy_field_that_was_not_given_says_what_to_pass() -> None:
    with pytest.raises(AgrbenchError, match=r"needs root, which was not given; pass root=: the server's own update"):
        _ = Server(model=Counted()).root
    insider = Insider(
        malicious=1, clients=2, byzantine=1, layout=None, number=1, memory={}, rng=torch.Generator()
    )  # fmt: skip
    with pytest.raises(AgrbenchError, match=r"needs respond, which was not given; pass defense=: the stack attacked"):
        _ = insider.respond
