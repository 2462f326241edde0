"""Network parts shared by the detector and the pose network."""
