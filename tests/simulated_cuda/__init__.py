"""A CUDA device for machines without one: tests what the code for GPUs does, not how fast or with how much memory.

Its tensors say that they are on ``cuda:0`` and lie in host memory. As on a GPU, mixing devices fails, a captured graph
computes nothing until it is replayed, and then with the tensors that it was captured with, and waiting for the device
during a capture fails. Unlike there, everything is done at once, in the order in which it was asked for.
"""
