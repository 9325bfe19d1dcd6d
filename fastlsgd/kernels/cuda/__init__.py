"""The contract on a GPU, compiled by Numba CUDA."""
