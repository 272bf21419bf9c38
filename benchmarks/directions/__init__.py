"""Directions in which span regression was taken further: each measured in every embedded world, kept or dropped."""
