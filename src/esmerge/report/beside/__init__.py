"""Two sets of results side by side: sweeps of this program, or per-sample logs of other evaluation programs."""
