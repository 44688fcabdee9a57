"""All that makes machine code of a Python function, whatever the function does.

Here stand Numba's compiler as fedmpi uses it, the cache on disk, errors in plain words, vectors, debug mode's flag.
Not here: types of the language, columns, the kernels themselves.
"""
