"""Brings the whole stack up on one machine: an AWS emulator, a stand-in for FlowAccount, `sam deploy`."""
