"""Every page, ours and the stand-in's, in a real browser."""
