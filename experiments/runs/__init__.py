"""The trainings that made the shipped weights: one config file each, named by stage and month."""
