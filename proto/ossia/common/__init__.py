"""What every process of ossia shares: errors, folders, logs, metrics and the conventions of its gRPC. Knows no part."""
