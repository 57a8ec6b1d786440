"""Puts the connections of a restored table back: `python -m tools.restore`, see `__main__`."""
