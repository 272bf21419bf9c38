"""One figure per file, drawn from a tidy table: no store, no model and no torch in sight."""
