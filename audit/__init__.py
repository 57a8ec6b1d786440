"""Looks at the stack with other people's tools: ``python -m audit``, see `__main__`."""
