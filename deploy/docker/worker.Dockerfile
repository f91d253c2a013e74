# A replica of the model with its own Ray. Build from the repository's root:
#   docker build -f deploy/docker/worker.Dockerfile -t ossia-worker:0.1.0 .
# TORCH names the torch to install: the default is the one for this platform; add --build-arg PIP_INDEX_URL=... for another build.
FROM python:3.11-slim AS build
ARG TORCH=torch==2.13.*
ARG PIP_INDEX_URL
WORKDIR /src
RUN python -m venv /opt/ossia
RUN /opt/ossia/bin/pip install --no-cache-dir "$TORCH"
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY router router
COPY workers workers
COPY cluster cluster
RUN /opt/ossia/bin/pip install --no-cache-dir '.[cluster]'

FROM python:3.11-slim
COPY --from=build /opt/ossia /opt/ossia
RUN useradd --uid 10001 --create-home ossia
USER 10001
ENV PATH=/opt/ossia/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 50051
ENTRYPOINT ["ossia"]
CMD ["replica", "--help"]
