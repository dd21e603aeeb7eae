"""What Ray Train's controller is told: how workers see their GPUs, and where they begin. It needs no torch for that.

Its own Torch backend would bring seconds of import into the driver's process, where the controller runs, before it asks
for workers. So the workers make their process group by themselves (`worker`), and one worker alone has none.
"""

from __future__ import annotations

from typing import Any

from ray.train.backend import Backend, BackendConfig


class _Neighbours(Backend):  # type: ignore[misc]
    """Workers of a node see each other's GPUs, as NCCL needs it between them."""

    share_cuda_visible_devices = True


class Workers(BackendConfig):  # type: ignore[misc]
    """Workers that Ray Train starts, restarts and ends, and does not connect."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train asks."""
        return _Neighbours


def work(config: dict[str, Any]) -> None:
    """What Ray Train runs on every worker."""
    from raymix.on_ray.worker import work_off  # torch comes with it

    work_off(config)
