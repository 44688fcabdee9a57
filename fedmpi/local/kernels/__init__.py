"""Kernels: numerical functions with a contract and a NumPy twin.

Here stands softmax regression for rows in every form.
Not here: what compiles them (`fedmpi.local.jit`), and the types of the language.
"""
