"""LightGlue: kornia's parameters, and a network that needs no large matrices."""
