"""`ossia replica` over the fake head: python -m tests.fakes.replica [ARGUMENT...]."""

from cluster import cli, standalone
from cluster.standalone import ReplicaConfig

if __name__ == "__main__":
    real = standalone.run

    def run(config: ReplicaConfig) -> int:
        return real(config, ["tests.fakes.head"])

    standalone.run = run  # type: ignore[assignment]
    cli.main()
