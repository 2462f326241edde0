"""What the programs are made of; parts never import programs."""
