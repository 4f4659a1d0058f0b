"""What ``scripts/bench`` runs: the gateway and other proxies under load, as ratios of one run."""
