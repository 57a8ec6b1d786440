"""Serving a valid access token, refreshed first where it must be."""
