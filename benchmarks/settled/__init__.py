"""The page that settles which merge is best: every world, published beside tuned, from finished sweeps."""
