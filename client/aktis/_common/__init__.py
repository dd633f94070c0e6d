"""What the client library and the daemons share: identities, configuration, rpc, telemetry."""
