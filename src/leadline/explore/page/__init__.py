"""The page of the explorer: its frame, controls and cards."""
