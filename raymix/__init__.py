"""raymix: MixTraining (SSL and SL in one run) on Ray, and what each phase costs and brings."""
