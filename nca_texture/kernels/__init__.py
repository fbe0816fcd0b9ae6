"""Implementations of a step; kernels know tensors and numbers, none of our classes."""
