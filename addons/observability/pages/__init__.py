"""The gateway's own pages: metrics, flags, status, a token's own access, explanations and profiles."""
