"""Measurements of section 1, on the digits or on the user's rows; one file per statement."""
