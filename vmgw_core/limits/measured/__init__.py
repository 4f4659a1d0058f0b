"""Usage that a datasource measures: what to ask it, and what its answers say."""
