"""Looks at the stack with other people's tools: ``python -m tools.audit``, see `__main__`."""
