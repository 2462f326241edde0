"""SSD (Liu et al. 2016): one look, people read off maps of several strides."""
