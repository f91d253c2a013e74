# Gateway and router: no torch, no ray. Build from the repository's root:
#   docker build -f deploy/docker/gateway.Dockerfile -t ossia-gateway:0.1.0 .
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/ossia
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY router router
COPY workers workers
COPY cluster cluster
RUN /opt/ossia/bin/pip install --no-cache-dir '.[gateway]'

FROM python:3.11-slim
COPY --from=build /opt/ossia /opt/ossia
RUN useradd --uid 10001 --create-home ossia
USER 10001
ENV PATH=/opt/ossia/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8000
ENTRYPOINT ["ossia"]
CMD ["gateway", "--help"]
