"""Command-line programs and experiment configs. Nothing imports this package."""
