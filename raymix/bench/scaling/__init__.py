"""`raymix bench scale`: raymix's workers against a torchrun group of plain PyTorch loops on the same devices."""
