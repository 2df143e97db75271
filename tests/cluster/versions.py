"""Every version and recipe number of the cluster. The caches are keyed by what stands here."""

GO_AT_LEAST = (1, 26, 6)

KUBERNETES = "v1.37.2"  # kubectl, the API server of the integration tests, and the node image built here
# What else the integration tests can be run against, oldest first: the last patch release of each that can be had.
OTHER_KUBERNETES = ("v1.30.14", "v1.31.14", "v1.32.13", "v1.33.13", "v1.34.4", "v1.35.4", "v1.36.3")
ETCD = "v3.7.3"
CONTAINERD = "v2.4.2"
COREDNS = "v1.14.7"
KIND = "v0.33.0"
HELM = "v4.3.1"

# What this version of kind pulls when it is not told otherwise. It trails KUBERNETES by a patch release or two.
STOCK_NODE_IMAGE = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"

# Debian suites. The node stays on bookworm: its systemd 252 boots on cgroup v1, that of trixie refuses to.
NODE_SUITE = "bookworm"

# Images that Dockerfiles start from: with a registry, without one, and the suite the latter is made of.
# Raise the last number of a tag when the recipe of that image changes.
PYTHON_BASES = (
    ("python:3.13-slim", "modelward-base:trixie-1", "trixie"),
    ("python:3.11-slim", "modelward-base:bookworm-1", "bookworm"),  # MLServer does not run on 3.13
)
