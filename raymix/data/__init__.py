"""Images and rows: formats, splits, order, decoding. No Ray."""
