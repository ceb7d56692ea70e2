"""The soak: jobs of real instances, with faults. ``script/soak`` runs it."""
