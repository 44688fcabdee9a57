"""The table of operators: a row each, with its typing rule and what an error may advise.

Here stand the rows, what their rules share, and hints.
Not here: how a rule is applied to what users write (`fedmpi.language.tracing`), and how an operator runs.
"""
