FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends make git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /repository
ARG PIP_EXTRA_INDEX_URL
COPY . .
RUN make notebooks
RUN make test
