"""The steps from an older database to this version's; run by ``Database.migrate``."""
