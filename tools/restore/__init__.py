"""Puts the connections of a restored table back into the stack's table: `python -m tools.restore`, see `__main__`."""
