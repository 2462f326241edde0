"""Bottom-up: all parts of a picture, and which of them are one person (DeepCut, DeeperCut)."""
