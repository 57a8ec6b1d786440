"""The probe finds out how an authorization server behaves where its documentation is silent.

``python -m tools.probe`` (or ``make probe``) asks for a few consents of its user, and ends in a report: each question,
its answer, and the deployment parameter that follows. See docs/probe.md.
"""
