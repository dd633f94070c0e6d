"""The daemons of Aktis: gcs, raylet and plasma."""
