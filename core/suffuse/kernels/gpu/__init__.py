"""The Triton versions of the kernels; imported where there is a GPU that runs them.

Each module holds a kernel and the function that launches it. They agree with the references of the
same names one folder up, which say what they mean.
"""
