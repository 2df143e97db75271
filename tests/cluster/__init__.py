"""The cluster that modelward is tested on, and the binaries that the integration tests run.

``python3 -m tests.cluster <verb>`` from the root of the repository; the system's Python is enough.
Where an image registry answers, kind's stock node image is used. Where none does, the same cluster is made from source:
Kubernetes, etcd, CoreDNS and containerd as Go modules, the file systems with debootstrap.
"""
