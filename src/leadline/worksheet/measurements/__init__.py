"""Measurements of the statements: one function per statement, from a setting to an answer."""
