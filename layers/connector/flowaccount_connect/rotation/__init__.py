"""The rotation protocol: how a refresh token is spent once, and never lost."""
