"""Measurements of section 1, on the digits or on the rows of a user; a file for each statement, and what they share."""
