"""What is decided when workers fail: whether they hang, which of them, and whether they are started again. Pure."""
