"""Property-test profiles: `ci` repeats the same examples, `thorough` is for long local runs (HYPOTHESIS_PROFILE).

Tests marked `cuda` need a CUDA device; where there is none, the summary names them as not run.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
torch.set_num_threads(1)

NO_DEVICE = "there is no CUDA device here"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give dry runs in this process all the time that a busy machine takes."""
    from agrbench.cli import estimate

    monkeypatch.setattr(estimate, "PATIENCE", 600.0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a test that needs a CUDA device where there is none."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip(NO_DEVICE)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that were not run."""
    left = [report.nodeid for report in terminalreporter.stats.get("skipped", []) if NO_DEVICE in str(report.longrepr)]
    if left:
        terminalreporter.section(f"not run: {NO_DEVICE}")
        for name in sorted(left):
            terminalreporter.line(name)
