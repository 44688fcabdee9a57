"""Plans and programs for readers: as text, as a tree, as a picture.

Here stands what prints.  Not here: anything that a call needs.
"""
