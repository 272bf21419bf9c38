"""The probe: what goes through every specialist, and the signals that it leaves."""
