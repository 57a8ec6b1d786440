"""What keeps connections alive, and for how many: a simulation over days, in a virtual clock."""
