"""One Ray for all tests of this folder, to which raymix attaches; each worker group costs many seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

NUM_CPUS = 6  # logical ones: a group of three, one of two and a reader, side by side


@pytest.fixture(scope="package")
def attached() -> Iterator[None]:
    """A Ray of NUM_CPUS that is there before raymix is called, as in a notebook that has used Ray already."""
    import ray

    from raymix.on_ray.cluster import ENVIRONMENT

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        ray.init(
            address="local",
            num_cpus=NUM_CPUS,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        yield
        ray.shutdown()
