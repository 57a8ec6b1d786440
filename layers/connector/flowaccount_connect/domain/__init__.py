"""Pure facts and rules: what a connection is, when it falls due, which URLs and ids are good, what an event says."""
