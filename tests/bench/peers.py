"""The proxies that the sidecar is measured beside: each has one worker, passes requests through, and checks nothing."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A proxy: its name, the command that runs it in the foreground, and the port that it listens on."""

    name: str
    command: list[str]
    port: int


def find(name: str) -> str | None:
    """Where a proxy's program is; None: not on this machine."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/usr/local/bin")


def peers(folder: Path, model_port: int, first_port: int, *, tls: bool) -> tuple[list[Peer], list[str]]:
    """Return the proxies that are on this machine, their configurations written, and how to get those that are not."""
    makers = {"nginx": _nginx, "haproxy": _haproxy, "envoy": envoy}
    install = {
        "nginx": "apt-get install nginx-light",
        "haproxy": "apt-get install haproxy",
        "envoy": "pip install --require-hashes -r requirements/bench.txt",
    }
    found, missing = [], []
    for offset, (name, make) in enumerate(makers.items()):
        program = find(name)
        if program is None:
            missing.append(f"{name} is not on this machine: {install[name]}")
        else:
            port = first_port + offset
            found.append(Peer(name, make(program, folder, model_port, port, tls=tls), port))
    return found, missing


def _nginx(program: str, folder: Path, model_port: int, port: int, *, tls: bool) -> list[str]:
    secure = f"ssl_certificate {folder}/tls/tls.crt; ssl_certificate_key {folder}/tls/tls.key;" if tls else ""
    path = folder / "nginx.conf"
    path.write_text(f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 10000000; client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream model {{ server 127.0.0.1:{model_port}; keepalive 64; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port} {"ssl" if tls else ""}; {secure}
    location / {{ proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
""")
    return [program, "-c", str(path), "-p", str(folder)]


def _haproxy(program: str, folder: Path, model_port: int, port: int, *, tls: bool) -> list[str]:
    pair = folder / "haproxy.pem"
    pair.write_bytes((folder / "tls/tls.crt").read_bytes() + (folder / "tls/tls.key").read_bytes())
    path = folder / "haproxy.cfg"
    path.write_text(f"""
global
  nbthread 1
  maxconn 1024
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind 127.0.0.1:{port} {f"ssl crt {pair}" if tls else ""}
  default_backend model
backend model
  http-reuse always
  server m 127.0.0.1:{model_port}
""")
    return [program, "-db", "-f", str(path)]


_TLS = """
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - certificate_chain: {{filename: {folder}/tls/tls.crt}}
              private_key: {{filename: {folder}/tls/tls.key}}
"""


_TO_HTTP2 = """
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
"""


def envoy(
    program: str, folder: Path, model_port: int, port: int, *, tls: bool = False, grpc: bool = False
) -> list[str]:
    """The command of an Envoy whose configuration is written into `folder`; `grpc`: by HTTP/2 on both sides."""
    path = folder / "envoy.yaml"
    path.write_text(f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          codec_type: {"HTTP2" if grpc else "HTTP1"}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: model}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
{_TLS.format(folder=folder) if tls else ""}
  clusters:
  - name: model
    type: STATIC
{_TO_HTTP2 if grpc else ""}
    load_assignment:
      cluster_name: model
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {model_port}}}}}}}
""")
    return [program, "-c", str(path), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
