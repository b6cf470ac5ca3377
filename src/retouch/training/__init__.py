"""Training: recipes, one loop for every network, EMA, checkpoints that resume exactly."""
