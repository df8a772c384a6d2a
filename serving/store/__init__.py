"""What the service remembers: records, pictures, and what was found out later."""
