# The image of the operator: one static binary, the public certificate authorities, nothing else.
#
# From sources, in a Rust image; BuildKit sets the platforms, by default that of the machine:
#   docker buildx build --platform linux/amd64,linux/arm64 --tag ghcr.io/rorun/rorun-operator:0.1.0 .
#
# From a binary that is there, which pulls nothing and works with the classic builder too. DIR holds two files, the static
# binary `rorun-operator` (executable) and the authorities `ca-certificates.crt`; BINARY and CA_BUNDLE name others:
#   docker build --target prebuilt --file Dockerfile --tag ghcr.io/rorun/rorun-operator:0.1.0 DIR
#
# VERSION and REVISION are optional and end up in labels.

# What both images have in common.
FROM scratch AS base
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="rorun-operator" \
      org.opencontainers.image.description="Kubernetes operator that runs RorunStacks" \
      org.opencontainers.image.source="https://github.com/rorun/rorun-operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# By number, so that the kubelet can see that it is not root.
USER 10001:10001
ENTRYPOINT ["/rorun-operator"]
CMD ["run"]

FROM base AS prebuilt
ARG BINARY=rorun-operator
ARG CA_BUNDLE=ca-certificates.crt
COPY ${CA_BUNDLE} /etc/ssl/certs/ca-certificates.crt
COPY ${BINARY} /rorun-operator

# Compiles on the machine's own platform for the target's: nothing is emulated. C code, of which the allocator is, needs the
# headers of musl. No `RUN --mount` here: the classic builder refuses the whole file for it.
FROM --platform=$BUILDPLATFORM rust:1.95 AS build
ARG TARGETARCH=amd64
WORKDIR /src
COPY . .
RUN set -eu; \
    case "$TARGETARCH" in \
      amd64) arch=x86_64 package=gcc-x86-64-linux-gnu options= ;; \
      # musl has not what calls of atomic operations out of line need. Some kernels have pages of 64 KiB.
      arm64) arch=aarch64 package=gcc-aarch64-linux-gnu options=-mno-outline-atomics JEMALLOC_SYS_WITH_LG_PAGE=16 ;; \
      *) echo "TARGETARCH is $TARGETARCH, not amd64 or arm64" >&2; exit 1 ;; \
    esac; \
    compiler=$arch-linux-gnu-gcc target=$arch-unknown-linux-musl; \
    dpkg --add-architecture "$TARGETARCH"; apt-get update; \
    if ! command -v "$compiler"; then \
      apt-get install --yes --no-install-recommends "$package" "libc6-dev-$TARGETARCH-cross"; \
    fi; \
    apt-get install --yes --no-install-recommends "musl-dev:$TARGETARCH"; \
    printf '#!/bin/sh\nexec %s -specs /usr/lib/%s-linux-musl/musl-gcc.specs %s "$@"\n' "$compiler" "$arch" "$options" \
      > /usr/local/bin/musl-cc; \
    chmod +x /usr/local/bin/musl-cc; \
    rustup target add "$target"; \
    export "CC_$(echo "$target" | tr - _)=musl-cc" ${JEMALLOC_SYS_WITH_LG_PAGE:+JEMALLOC_SYS_WITH_LG_PAGE}; \
    export "CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_LINKER=$compiler"; \
    cargo build --locked --release --package rorun-operator --bin rorun-operator --target "$target"; \
    mv "target/$target/release/rorun-operator" /

FROM base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /rorun-operator /rorun-operator
