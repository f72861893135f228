# geth and spyhop in one image: `docker build -t spyhop .`
#
# Building needs BuildKit, which is Docker's default. The first build compiles DuckDB, which takes long; what it compiled stays in
# BuildKit's cache. A binary that is already built is used with `--build-arg BINARY=built`, from the file `spyhop` next to this one,
# with `spyhop.cdx.json` if present.

ARG GETH_IMAGE=ethereum/client-go:v1.17.8
ARG RUST_IMAGE=rust:1.95-bookworm
# `build`, or `built`.
ARG BINARY=build

# Static, on glibc: compiled on Debian, it runs on alpine and in an empty root.
FROM ${RUST_IMAGE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends clang && rm -rf /var/lib/apt/lists/*
# A profile of Cargo.toml: `release`, or `quick`, which compiles in a third of the time and lists no bill of materials.
ARG PROFILE=release
RUN [ "$PROFILE" = quick ] || cargo install --locked cargo-cyclonedx@0.5.9
WORKDIR /build
COPY . .
# cargo decides by modification time, and the copied files may be older than those in the cache.
RUN --mount=type=cache,id=spyhop-registry,target=/usr/local/cargo/registry --mount=type=cache,id=spyhop-target,target=/build/target \
    touch src/lib.rs src/main.rs \
    && export CC=clang CXX="$([ "$PROFILE" = quick ] && echo /build/docker/pch-clangxx || echo clang++)" \
    && cargo build --profile "$PROFILE" --locked --bins \
    && strip --output-file /spyhop target/*/"$PROFILE"/spyhop
# Its software bill of materials, in CycloneDX.
RUN --mount=type=cache,id=spyhop-registry,target=/usr/local/cargo/registry \
    [ "$PROFILE" = quick ] \
    || { SOURCE_DATE_EPOCH=0 cargo cyclonedx --format json --no-build-deps --override-filename spyhop.cdx && mv spyhop.cdx.json /; }

FROM scratch AS built
# The pattern allows the file to be absent.
COPY spyhop spyhop.cdx.jso[n] /

FROM ${BINARY} AS binary

# spyhop alone, for a container next to one of geth: `docker build --target alone`. It must run as geth's user, because the
# socket is open to that user only.
FROM scratch AS alone
COPY --from=binary /spyhop /spyhop.cdx.jso[n] /
COPY LICENSE /LICENSE
ENV SPYHOP_IPC=/run/geth/geth.ipc SPYHOP_DATA=/data/spyhop
VOLUME /data/spyhop
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m CMD ["/spyhop", "health"]
ENTRYPOINT ["/spyhop"]
CMD ["watch"]

FROM ${GETH_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="spyhop" \
    org.opencontainers.image.description="geth, and beside it whale analysis of its chain in a DuckDB file" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# Writable by any user, like /tmp, because the user is not known here. A new named volume inherits this.
RUN mkdir -p /run/geth /data && chmod 1777 /run/geth /data
COPY --from=binary /spyhop /usr/local/bin/spyhop
COPY --from=binary /spyhop.cdx.jso[n] /usr/local/share/spyhop/
COPY entrypoint.sh /entrypoint.sh
ENV SPYHOP_IPC=/run/geth/geth.ipc SPYHOP_DATA=/data/spyhop
# HTTP, WebSocket, spyhop's page, peers.
EXPOSE 8545 8546 8550 30303 30303/udp
VOLUME /data
STOPSIGNAL SIGTERM
# A node may check or upgrade its database for minutes before it answers.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m CMD ["spyhop", "health"]
ENTRYPOINT ["/entrypoint.sh"]
