"""The small supervisor of hosts without systemd: under ``aktis.init()`` and ``aktis start`` alike."""
