"""FlowAccount Connect: keeps the rotating, one-day refresh tokens of FlowAccount alive.

Folders by concern; imports go one way, from the end of this list to its beginning: `domain`, `oauth`, `storage`,
`rotation`, then the use cases `connect`, `scheduling`, `tokens`, `connections`, `publishing`, `notifying`. Handlers
alone import `http` and `runtime`. `runtime.bootstrap` is the one place that puts the parts together with AWS.
"""

__version__ = "0.3.0"

SOURCE = "flowaccount-connect"
"""The `source` of every event on the bus."""
