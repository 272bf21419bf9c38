"""The embedded world: a synthetic pharmacology whose facts, molecules, proteins and cells all follow from one seed."""
