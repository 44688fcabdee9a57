"""Unplaced functions of the language, ready to run: written as one compiled function, or interpreted.

Here stand the code generator, what it needs of captured values, the interpreter, and the choice between both.
Not here: clients, ranks, stages.
"""
