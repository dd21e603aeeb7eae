"""`raymix bench`: speed as a ratio against a named rival."""
