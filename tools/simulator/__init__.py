"""A stand-in for FlowAccount: its login, its token endpoint and one page of its business API, on loopback.

Strict in all that FlowAccount's page says, switchable in what it leaves open (`simulator.settings`), with a
clock that can be set and failures that can be ordered (`simulator.control`). Start it with ``python -m
simulator``.
"""
