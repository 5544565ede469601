# Two images: `cachepage` is the proxy alone, `laboratory` (the last, and so the default) has the article's origin and seed.
#
#   docker build --target cachepage --tag cachepage:0.1.0 --build-arg REVISION="$(git rev-parse --short HEAD)" .

FROM rust:1-slim-bookworm AS build
# Static programs need nothing of the image that they run in. The C parts of mimalloc and ring are compiled by musl-gcc.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates musl-tools && \
    rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /cachepage
ARG REVISION=""
# The optimisation of a release takes many minutes. compose.yaml takes the profile of `cargo demo`, which optimises less, and
# compiles only what a change concerns.
ARG PROFILE=release INCREMENTAL=0
ENV CACHEPAGE_REVISION=$REVISION CARGO_INCREMENTAL=$INCREMENTAL
COPY . .
# Cargo believes that a file which is older than the last build is unchanged. An edit during that build, or another clone of
# the project, brings files for which that is wrong. So all files whose content the last build did not have are touched. The
# list of that build is empty until a build has ended well.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/cachepage/target,sharing=locked \
    built="target/sources-$(uname -m)-$PROFILE" && touch "$built" && \
    find . -path ./target -prune -o -type f -exec sha256sum {} + | sort > /tmp/sources && \
    comm -23 /tmp/sources "$built" | cut -c 67- | xargs --no-run-if-empty touch && \
    : > "$built" && \
    cargo build --profile "$PROFILE" --locked --target "$(uname -m)-unknown-linux-musl" -p origin -p proxy -p seed && \
    mv /tmp/sources "$built" && \
    install -D --target-directory /image/usr/bin target/*-unknown-linux-musl/"$PROFILE"/origin \
        target/*-unknown-linux-musl/"$PROFILE"/proxy target/*-unknown-linux-musl/"$PROFILE"/seed

# Nothing else: no shell, no package, no user but a number. `cachepage health` and `origin health` need no curl.
FROM scratch AS cachepage
LABEL org.opencontainers.image.title="Cachepage" \
    org.opencontainers.image.description="Caching reverse proxy with the rules of Django's cache_page" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="0.1.0"
COPY --from=build /image/usr/bin/proxy /usr/bin/cachepage
# For rediss://.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY deploy/image/cachepage.toml /etc/cachepage/
# Named by the environment, so that `cachepage health` and `cachepage explain` beside the proxy have the same settings.
ENV PROXY_CONFIG=/etc/cachepage/cachepage.toml
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=2s CMD ["/usr/bin/cachepage", "health"]
ENTRYPOINT ["/usr/bin/cachepage"]

FROM scratch AS laboratory
COPY --from=build /image/usr/bin/origin /image/usr/bin/seed /usr/bin/
USER 65532:65532
CMD ["origin"]
