# The gateway as one image. Build: docker build -t gatehouse .
FROM python:3.11-slim-bookworm AS build

WORKDIR /build
RUN python -m venv /tools && /tools/bin/pip install --no-cache-dir uv
COPY . .
# What is served has its bytecode with it, as it cannot write any; and no pip.
RUN /tools/bin/uv venv --no-python-downloads --python "$(command -v python)" /opt/gatehouse \
    && /tools/bin/uv pip install --system-certs --no-cache --compile-bytecode --python /opt/gatehouse ".[all]"


FROM python:3.11-slim-bookworm

# The data folder belongs to the user here, so that a volume mounted over it for the first time does too.
RUN groupadd --gid 10001 gatehouse \
    && useradd --uid 10001 --gid gatehouse --no-create-home --home-dir /data --shell /usr/sbin/nologin gatehouse \
    && install --directory --owner=gatehouse --group=gatehouse --mode=0700 /data
COPY --from=build /opt/gatehouse /opt/gatehouse

ENV PATH=/opt/gatehouse/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEHOUSE_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8000

# Inside the container every address; who may reach it is decided where the port is published.
ENTRYPOINT ["gatehouse"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
