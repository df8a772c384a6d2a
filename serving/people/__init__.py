"""Who may do what, who did it, and how much of it."""
