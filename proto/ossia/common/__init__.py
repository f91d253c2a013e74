"""What every process of ossia shares: errors, folders, logs, metrics, vocabulary, conventions of its gRPC. Knows no part."""
