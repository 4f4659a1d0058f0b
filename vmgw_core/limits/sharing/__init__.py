"""Limits that several processes share: accounts, leases, the queue, and the counts of replicas."""
