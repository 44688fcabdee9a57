"""The tree: a typed program as frozen nodes, and the scopes in which it is made.

Here stand the nodes, the one walk over them, constants, and the bodies that are being traced.
Not here: which operators there are, and the values that a traced body handles.
"""
