"""One run is one merge or one reference on a suite: what it is called, what it needs, and how it is carried out."""
