"""The only folder that imports Ray: driver, worker, and reading with Ray Data."""
