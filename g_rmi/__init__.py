"""G-RMI in JAX: multi-person pose estimation in the wild (Papandreou et al., CVPR 2017).

This package init imports nothing, so that data-loading workers can use `g_rmi.skeleton` and
`g_rmi.geometry` without loading jax.
"""

__version__ = "0.1.0"
