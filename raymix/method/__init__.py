"""MixTraining itself: views, backbones, objectives and the three steps. Torch only."""
