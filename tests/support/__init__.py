"""What tests of several kinds stand on."""
