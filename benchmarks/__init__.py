"""What is fast enough, measured: each figure beside its ceiling or a peer in the same run."""
