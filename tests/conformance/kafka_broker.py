"""A broker of Apache Kafka's, as its project releases it: one node on this machine, from jars, in a folder of its own.

It stands by the topics, accounts and rights that it is given: nothing is made by whoever asks for it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509

from tests.conformance.servers import free_port
from tests.unit.sidecar.pki import Authority

SCRAM = "SCRAM-SHA-512"
_SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{ports[CONTROLLER]}
controller.listener.names=CONTROLLER
listeners={listeners}
listener.security.protocol.map=ADMIN:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,TLS:SSL
inter.broker.listener.name=ADMIN
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
sasl.enabled.mechanisms={scram}
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.client.auth=none
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
"""


class Broker:
    """Listens for its administrator (no account asked for), for TLS, and for TLS with an account (SCRAM)."""

    def __init__(self, jars: Path, folder: Path, accounts: Mapping[str, str]) -> None:
        self._jars, self._folder = jars, folder
        self.authority = Authority()
        ports = {name: free_port() for name in ("ADMIN", "CONTROLLER", "SECURE", "TLS")}
        self.plain, self.secure, self.tls = (f"localhost:{ports[name]}" for name in ("ADMIN", "SECURE", "TLS"))
        certificate, key = self.authority.issue(folder, x509.DNSName("localhost"))
        keystore = folder / "keystore.pem"
        keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
        listeners = ",".join(f"{name}://localhost:{port}" for name, port in ports.items())
        self._settings = folder / "server.properties"
        self._settings.write_text(
            _SETTINGS.format(ports=ports, listeners=listeners, keystore=keystore, folder=folder, scram=SCRAM)
        )
        scram = [f"--add-scram={SCRAM}=[name={name},password={word}]" for name, word in accounts.items()]
        command = self._java("kafka.tools.StorageTool", "format", "-t", uuid.uuid4().hex[:22], "-c", self._settings)
        done = subprocess.run([*command, *scram], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"the broker's folder could not be made: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers its administrator."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", self._settings), stdout=log, stderr=subprocess.STDOUT, cwd=self._folder
            )
        host, _, port = self.plain.partition(":")
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                break
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        self._admin().list_topics(timeout=60)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Have it end in order, as a rollout does, or not."""
        if self._process is not None:
            self._process.send_signal(by)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def topic(self, name: str, partitions: int = 1, **config: str) -> None:
        """Make a topic."""
        given = {key.replace("_", "."): value for key, value in config.items()}
        admin = self._admin()
        (made,) = admin.create_topics([NewTopic(name, partitions, 1, config=given)]).values()
        made.result(60)

    def allow(self, account: str, topic: str, operations: Sequence[AclOperation] = (AclOperation.WRITE,)) -> None:
        """Give an account rights to a topic."""
        admin = self._admin()
        for operation in operations:
            binding = AclBinding(
                ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{account}", "*", operation,
                AclPermissionType.ALLOW,
            )  # fmt: skip
            (made,) = admin.create_acls([binding]).values()
            made.result(60)

    def messages(self, topic: str, count: int, seconds: float = 60) -> list[Any]:
        """Read `count` messages of a topic, each partition's in its order; what comes within a second more as well."""
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": self.plain, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest",
             "fetch.message.max.bytes": "16777216", "log_level": "2"}
        )  # fmt: skip
        consumer.subscribe([topic])
        found: list[Any] = []
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                message = consumer.poll(1)
                if message is not None and message.error() is None:
                    found.append(message)
                elif message is None and len(found) >= count:
                    break
        finally:
            consumer.close()
        return found

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.plain, "log_level": "2"})

    def _java(self, program: str, *words: str | Path) -> list[str]:
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", "-Xmx384m", quiet, "-cp", f"{self._jars}/*", program, *map(str, words)]


@contextlib.contextmanager
def running(jars: Path, folder: Path, accounts: Mapping[str, str]) -> Iterator[Broker]:
    """A broker that is there from beginning to end."""
    broker = Broker(jars, folder, accounts)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
