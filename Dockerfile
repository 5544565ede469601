# One image with origin, proxy and seed; compose.yaml starts each of them.

FROM rust:1-slim-bookworm AS build
WORKDIR /cachepage
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/cachepage/target \
    cargo build --release --locked -p origin -p proxy -p seed && \
    install -D --target-directory /image/usr/local/bin target/release/origin target/release/proxy target/release/seed
# The programs' libraries, each at its place.
RUN ldd /image/usr/local/bin/* | grep --only-matching '/lib[^ ]*' | sort --unique | \
    xargs cp --parents --dereference --target-directory /image

# Nothing else: no shell, no package, no user but a number. `proxy health` and `origin health` need no curl.
FROM scratch
COPY --from=build /image /
# For rediss://.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
USER 65532:65532
CMD ["proxy"]
