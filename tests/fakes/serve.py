"""`ossia serve` over the fake head and gateway: python -m tests.fakes.serve [ARGUMENT...]."""

from cluster import cli, serve
from cluster.config import ServeConfig
from cluster.supervisor import Modules

MODULES = Modules(head=["tests.fakes.head"], gateway=["tests.fakes.gateway"])

if __name__ == "__main__":
    real = serve.run

    def run(config: ServeConfig) -> int:
        return real(config, MODULES)

    serve.run = run  # type: ignore[assignment]
    cli.main()
