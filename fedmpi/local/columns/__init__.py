"""Values in memory: columns of many values of one type, and their way in and out.

Here stand columns, the forms of their rows, checks of Python values, messages, and `ClientData`.
Not here: compiled code, and which rank has which client.
"""
