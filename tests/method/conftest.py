"""Small models are quickest on one thread, most of all beside other tests."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
