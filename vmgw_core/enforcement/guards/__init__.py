"""What a single query may ask for: its times, its lookbehind windows, and the guards that it is held to."""
