"""What counts: sliding windows, the windows of the calendar, and tables of series."""
