"""FlowAccount's side: the authorization URL, the token endpoint, what its answers mean, and the client secret."""
