"""CUDA kernels on a machine without a GPU: the same text, compiled by a host compiler, with real threads.

For tests and for contributors. Needs g++ (or clang++) on Linux; the CPU path of gpushrink never comes here.
"""
