"""The console in the browser, served by the same process; needs the extra ``console``."""
