"""Unit tests: the rules alone, the token endpoint against servers on loopback, the handlers with sample events."""
