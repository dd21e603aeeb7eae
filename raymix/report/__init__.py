"""Reports: what was done, as frozen values, and their JSON, HTML and plots. No torch, no Ray."""
