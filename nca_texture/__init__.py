"""Neural cellular automata that learn a texture from one image and grow it at any size."""

__version__ = "0.1.0"
