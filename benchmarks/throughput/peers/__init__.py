"""Other servers, set up as their documentation does; each script runs in its server's own venv."""
