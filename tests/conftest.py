"""For all tests: one thread a worker, so that parallel workers do not fight over the cores; seeds.

SUFFUSE_TEST_SEED=any draws a fresh seed for a run and prints it, a number makes a run like another.
"""

import os
import zlib

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# set before workers start, so that all have the same
if os.environ.get("SUFFUSE_TEST_SEED") == "any":
    os.environ["SUFFUSE_TEST_SEED"] = str(int.from_bytes(os.urandom(4), "little"))
SEED = int(os.environ.get("SUFFUSE_TEST_SEED", "0"))


def pytest_report_header() -> str:
    return f"random inputs: SUFFUSE_TEST_SEED={SEED}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A test's own seed below 2^32, from the run's and the test's name."""
    return zlib.crc32(f"{SEED} {request.node.nodeid}".encode())


@pytest.fixture(autouse=True)
def _seeded(seed: int) -> None:
    """torch's own numbers follow too."""
    import torch  # after the threads are set

    torch.manual_seed(seed)


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """What a test draws its random inputs from."""
    return np.random.default_rng(seed)
