# One image with origin, proxy and seed; compose.yaml starts each of them.

FROM rust:1-slim-bookworm AS build
WORKDIR /cachepage
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/cachepage/target \
    cargo build --release --locked -p origin -p proxy -p seed && \
    cp target/release/origin target/release/proxy target/release/seed /usr/local/bin/

FROM debian:bookworm-slim
# curl for the health checks, and the CA certificates for rediss://.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* && \
    useradd --system --no-create-home --shell /usr/sbin/nologin cachepage
COPY --from=build /usr/local/bin/origin /usr/local/bin/proxy /usr/local/bin/seed /usr/local/bin/
USER cachepage
