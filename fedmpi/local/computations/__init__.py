"""Local computations: a user's Python function with a declared type.

Here stand the decorators, the inference of the result's type, and bodies, compiled or interpreted.
Not here: programs of several functions (`fedmpi.local.loops`).
"""
