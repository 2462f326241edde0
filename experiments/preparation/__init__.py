"""What trainings begin from: weights that packages carry, labels of other networks."""
