"""What is done with a model as a whole, a tensor or a struct of tensors, in NumPy, and what users call for it.

Here stand the definitions, which the interpreter and bodies that run as Python use, and `fm.model`'s functions.
Not here: their rows in the table of operators, and their compiled forms (`fedmpi.local.typed.model_forms`).
"""
