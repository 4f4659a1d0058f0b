"""Counts that outlive the process: the state file, and the usage report in it or in Redis."""
