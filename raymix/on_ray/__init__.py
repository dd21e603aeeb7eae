"""The only folder that imports Ray: driver, worker, and reading with Ray Data."""

import logging
import warnings

# imported in a notebook without ipywidgets, Ray and tqdm ask for them, which nothing of raymix's would use
warnings.filterwarnings("ignore", "IProgress not found")
logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
