"""FlowAccount Connect: keeps the rotating, one-day refresh tokens of FlowAccount alive.

One flat package. Pure rules (`connection`, `token_response`, `schedule`, `return_urls`, `authorization_request`,
`problems`, `pages`, `settings`, `identifiers`) import the standard library only; `wiring` is the one place that puts
them together with AWS.
"""

__version__ = "0.2.0"
