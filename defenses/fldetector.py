"""FLDetector: exclude clients whose own past does not predict their updates (Zhang et al., KDD 2022)."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.plugins.contract import Verdict
from agrbench.server.history import curvature, kept_rows, upper_cluster
from agrbench.server.rounds import Round


def fldetector(round: Round, *, window: int = 10, exclude: Literal["run", "round"] = "run") -> Verdict:
    """Average all updates until the gap statistic finds two clusters of scores; then exclude the higher one, once.

    A client's score is its error `|g_i - (last g_i + B step)|` relative to the mean error, averaged over its last
    `window` rounds; `B` is the L-BFGS Hessian of the last `window` pairs of steps. The paper then restarts training
    without the excluded clients. Here training continues and nobody is judged again, because the statistic sometimes
    finds two clusters in one: over many rounds it would exclude nearly everybody. Variant: `exclude="round"` leaves
    clients out round by round.
    """
    heard = round.clients or ()
    kept = torch.ones(len(heard), dtype=torch.bool, device=round.device)
    past: dict[int, list[float]] = round.memory.setdefault("errors", {})
    for client, error in zip(heard, _errors(round, window), strict=True):
        if error == error:
            past[client] = [*past.get(client, []), error][-window:]
    if round.memory.get("done"):
        return Verdict(kept)
    judged = [row for row, client in enumerate(heard) if len(past.get(client, [])) == window]
    scores = np.array([np.mean(past[heard[row]]) for row in judged])
    kept[judged] = ~torch.from_numpy(upper_cluster(scores, round.rng)).to(kept.device)
    banned = [client for client, trusted in zip(heard, kept.tolist(), strict=True) if not trusted]
    round.memory["done"] = bool(banned) and exclude == "run"
    return Verdict(kept, exclude=banned if exclude == "run" else ())


def _errors(round: Round, window: int) -> list[float]:
    """Return each client's prediction error over the mean one, NaN before two steps and for a client's first update.

    A client not heard for a while is predicted from its last update, so it cannot avoid a score by silence.
    """
    steps: list[Tensor] = round.memory.setdefault("steps", [])
    if round.number > 1:
        steps.append(round.see(round.server.previous[None])[0].clone())
        del steps[: -window - 1]
    last = kept_rows(round, "last", float("nan"))
    errors = torch.full((len(last.ids),), float("nan"), dtype=torch.float64)
    if len(steps) > 1:
        predicted = last.table[last.ids] + curvature(torch.stack(steps))
        errors = torch.linalg.vector_norm(round.view - predicted, dim=1, dtype=torch.float64)
    last.table[last.ids] = round.view
    mean = errors.nanmean()
    return list((errors / mean if mean > 0 else errors).tolist())


defense = Defense(
    fldetector,
    family="history",
    requires=lambda n, f, *, window=10: 2 * f < n and window >= 1,
    waives={"regrouped": "it remembers what each client sent"},
)
