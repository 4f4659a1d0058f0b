"""What is told of each request that has ended: the access log, the query log, the usage report and traces."""
