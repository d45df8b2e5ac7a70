"""Blind spot: move whatever a max-pooled view cannot see (ours, 2026)."""

from torch import Tensor

from agrbench.clients.insider import Insider
from agrbench.clients.perturbations import unseen
from agrbench.errors import AgrbenchError
from agrbench.plugins import Attack


def blind_spot(insider: Insider, *, strength: float = 1.0, kernel: int = 2) -> Tensor:
    """Look like the mean honest view, and send `strength` less wherever that view does not look.

    The first entry of each `kernel` x `kernel` patch is the mean of the honest clients' largest entries there, and the
    other entries are `strength` less: neither the pooled nor the restored view moves with `strength`.

    Knowledge: all honest updates and the layout; it supposes `amp(kernel)` before the rule, whatever the rule.
    Space: updates. Sign: below what is seen. Goal: untargeted.
    """
    if strength < 0:
        raise AgrbenchError(f"strength is {strength}; write 0 or more, since more than a patch's largest entry is seen")
    seen, elsewhere = unseen(insider.honest.double(), insider.layout, kernel)
    return (seen - strength * elsewhere).expand(insider.malicious, -1)


attack = Attack(
    forge=blind_spot,
    within=lambda rows, insider, *, kernel=2: (
        (rows.double() - unseen(insider.honest.double(), insider.layout, kernel)[0])[
            :, unseen(insider.honest.double(), insider.layout, kernel)[1] == 0
        ].abs()
        <= 1e-9 * insider.honest.abs().max()
    ),
)
