"""Tests of the simulation over days and of the measurements."""
