# Built from the root of the repository: docker build -t longlived .
FROM rust:1-slim-bookworm AS build
# The allocator and the cryptography of TLS are C.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package longlived-cli \
    && strip -o /longlived target/release/longlived

FROM debian:bookworm-slim
# The authorities that clients trust at https:// unless told.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# A volume mounted over the directory takes its owner from here the first time.
RUN useradd --system --uid 10001 --no-create-home longlived \
    && install -d -o longlived /var/lib/longlived
COPY --from=build /longlived /usr/local/bin/longlived
USER longlived
# The health check and the clients ask the default port of the server; change both together. The address is beyond loopback: `serve`
# starts with TLS and --auth, or with LONGLIVED_INSECURE, which says what may be missing.
ENV LONGLIVED_LISTEN=0.0.0.0:7070
EXPOSE 7070
# The process drains on SIGTERM, which is what `docker stop` sends.
STOPSIGNAL SIGTERM
ENTRYPOINT ["longlived"]
CMD ["serve"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=2s CMD ["longlived", "healthcheck"]
