"""A search as values: what was tried, what is tried next, what ends early, what was best. Neither torch nor ray."""
