"""The probe: finds out how an authorization server behaves where its documentation is silent.

``python -m tools.probe`` (or ``make probe``) asks a handful of consents of its user, sends what a careful client would
and some of what it would not, and ends in a report and the stack's parameters that follow from it. See docs/probe.md.
"""
