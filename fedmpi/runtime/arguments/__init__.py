"""The arguments of a call, and which rank has which client.

Here stand checks, the making and moving of `ClientData`, owners, placeholders, and `fm.replicate`.
Not here: what is done with them.
"""
