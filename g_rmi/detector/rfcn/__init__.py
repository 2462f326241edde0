"""R-FCN (Dai et al. 2016): the parts of a region vote on maps of the whole picture."""
