"""`flowaccount-connect`: the stack's API for people, in a terminal."""
