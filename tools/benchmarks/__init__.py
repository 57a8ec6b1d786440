"""What keeps connections alive, and for how many: a simulation over days, and two measurements on real components."""
