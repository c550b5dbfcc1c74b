# Carrick's images: one static program each in an empty image.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --target gateway    -t REGISTRY/carrick/gateway:TAG .
#   docker buildx build --platform linux/amd64,linux/arm64 --target agent      -t REGISTRY/carrick/agent:TAG .
#   docker buildx build --platform linux/amd64,linux/arm64 --target controller -t REGISTRY/carrick/controller:TAG .
#
# The lab writes the same images without an engine: e2e/src/image.

FROM rust:1.95-bookworm AS build
ARG TARGETARCH
RUN apt-get update && apt-get install -y --no-install-recommends cmake nftables && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Each platform builds on itself (emulated or native), so that C parts need no cross compiler.
RUN set -e; \
    case "$TARGETARCH" in \
      amd64) target=x86_64-unknown-linux-gnu ;; \
      arm64) target=aarch64-unknown-linux-gnu ;; \
      *) echo "no build for $TARGETARCH; amd64 and arm64 are supported" >&2; exit 1 ;; \
    esac; \
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile image --target "$target" \
      --package carrick-gateway --package carrick-agent --package carrick-controller; \
    mkdir /out; \
    cp "target/$target/image/carrick-gateway" "target/$target/image/carrick-agent" \
       "target/$target/image/carrick-controller" /out/
# Agent and gateway start Debian's nft, which is linked with libraries: they go along, at their paths.
RUN mkdir /nft && cp --parents -L /usr/sbin/nft $(ldd /usr/sbin/nft | grep -o '/[^ ]*') /nft/

FROM scratch AS gateway
ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin:/
COPY --from=build /nft/ /
COPY --from=build /out/carrick-gateway /carrick-gateway
ENTRYPOINT ["/carrick-gateway"]

FROM scratch AS agent
ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin:/
COPY --from=build /nft/ /
COPY --from=build /out/carrick-agent /carrick-agent
ENTRYPOINT ["/carrick-agent"]

FROM scratch AS controller
COPY --from=build /out/carrick-controller /carrick-controller
ENTRYPOINT ["/carrick-controller"]
