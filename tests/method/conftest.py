"""Small models are quickest on one thread, most of all beside other tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An installed package whose entry point `own` makes a backbone."""
    installed = tmp_path_factory.mktemp("site")
    info = installed / "own_backbones-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-backbones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[raymix.backbones]\nown = own_backbones:tokens\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(installed)
        yield
