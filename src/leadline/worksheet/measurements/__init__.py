"""How each statement is measured: one function per statement, from a setting to an answer."""
