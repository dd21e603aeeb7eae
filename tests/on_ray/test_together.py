"""What sessions side by side take of a cluster, by arithmetic alone."""

from __future__ import annotations

from typing import Any

import pytest

from raymix.on_ray.together import gpu_share, needs
from raymix.spec import Cluster


@pytest.mark.parametrize(
    ("cluster", "together", "gpus", "share", "wanted"),
    [
        ({"workers": 0}, 4, 0, 0, {"CPU": 1}),
        ({"workers": 0, "cpus_per_worker": 2}, 1, 1, 1, {"CPU": 2, "GPU": 1}),
        ({"workers": 0}, 5, 2, 1 / 3, {"CPU": 1, "GPU": 1 / 3}),
        ({"workers": 2, "cpus_per_worker": 1.5}, 2, 8, 0, {"CPU": 4}),
        ({"workers": 1, "gpus_per_worker": 1}, 4, 1, 0.25, {"CPU": 2, "GPU": 0.25}),
        ({"workers": 1, "gpus_per_worker": 1}, 2, 4, 1, {"CPU": 2, "GPU": 1}),
        ({"workers": 2, "gpus_per_worker": 0.25}, 2, 1, 0.25, {"CPU": 3, "GPU": 0.5}),
        ({"workers": 2, "gpus_per_worker": 1}, 4, 2, 1, {"CPU": 3, "GPU": 2}),
    ],
)
def test_what_a_session_takes(
    cluster: dict[str, Any], together: int, gpus: float, share: float, wanted: dict[str, float]
) -> None:
    asked = Cluster.model_validate(cluster)
    assert gpu_share(asked, together, gpus) == share
    assert needs(asked, share) == wanted
