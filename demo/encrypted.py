"""`python -m demo.encrypted`: a model scores what nobody but the client can read, and its memory is searched for it.

On this machine, without a cluster: the example's model server, the very sidecar in front of it, and a client.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from demo import memory
from demo.kubectl import NotAsToldError
from demo.screen import Screen

EXAMPLE, BUILD = Path("examples/breast-cancer"), Path("build/example")
HERE = BUILD / "encrypted"
NAMESPACE, MODEL = "clinic", "wdbc"
MODELWARD = (sys.executable, "-m", "modelward.cli.main")
READY_SECONDS = 120
AVERAGED = 64  # rows, as many as the keys of a score reach over


def main() -> int:
    """Run every step; exit 0 when each came out as told."""
    screen = Screen()
    try:
        with contextlib.ExitStack() as running:
            row, expected, means = _prepared(screen)
            server = running.enter_context(_server(screen))
            sidecar, url = running.enter_context(_sidecar(screen))
            _asked(screen, url, expected)
            _averaged(screen, url, means)
            numbers = [float(value) for value in row]
            _searched(screen, (server, sidecar), numbers, held=False)
            _plain(screen, url, row)
            _searched(screen, (server, sidecar), numbers, held=True)
    except NotAsToldError as error:
        screen.failure(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    screen.panel(
        "Your own model",
        "modelward he keygen --out keys\n"
        "modelward he encrypt --keys keys rows.csv --model NAME --body --out request.json\n"
        "curl … -H 'content-type: application/json' --data @request.json https://…/v2/models/NAME/infer > answer.json\n"
        "modelward he decrypt --keys keys answer.json",
    )
    return 0


def _run(screen: Screen, *command: str | Path, show: bool = True) -> str:
    parts = [str(part) for part in command]
    if show:
        typed = ["modelward", *parts[3:]] if parts[:3] == list(MODELWARD) else [Path(parts[0]).name, *parts[1:]]
        screen.command(" ".join(typed))
    done = subprocess.run(parts, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAsToldError(f"{' '.join(parts)}: {done.stderr or done.stdout}")
    if show and done.stdout.strip():
        screen.output(done.stdout, keep=6)
    return done.stdout


def _prepared(screen: Screen) -> tuple[np.ndarray, float, dict[str, float]]:
    """Data, exported weights and manifests in `build/example`; the row that is asked about, its score, and means."""
    screen.step(
        "A model that scores under encryption",
        "One field in the manifest, `encryption.inUse`, and the model's exported weights in a ConfigMap. The client"
        " standardises its rows: so it makes numbers that no one else has, and that can be searched for.",
    )
    _run(screen, sys.executable, EXAMPLE / "prepare.py")
    HERE.mkdir(exist_ok=True)
    table = [line.split(",") for line in (BUILD / "wdbc.csv").read_text(encoding="utf-8").splitlines()]
    columns, rows = table[0][:-1], table[1:]
    features = np.array([[float(value) for value in one[:-1]] for one in rows])
    classes = [one[-1] for one in rows]
    train, held_out = features[1:], features[0]  # the example holds the first row out as well
    centre, scale = train.mean(axis=0), train.std(axis=0)
    plain = LogisticRegression().fit((train - centre) / scale, classes[1:])
    weights = {
        "coef": plain.coef_[0].tolist(),
        "intercept": float(plain.intercept_[0]),
        "link": "logistic",
        "columns": columns,
    }
    # To the last digit its own: a value of the data set may well stand in the baseline's limits too.
    row = np.asarray((held_out - centre) / scale + np.random.default_rng().uniform(-1e-9, 1e-9, 30))
    (HERE / "rows.csv").write_text(",".join(columns) + "\n" + ",".join(map(repr, row.tolist())) + "\n")
    averaged = columns[:3]
    some = features[:AVERAGED, :3]
    lines = [",".join(averaged), *(",".join(map(repr, one)) for one in some.tolist())]
    (HERE / "many.csv").write_text("\n".join(lines) + "\n")
    _manifests(weights, columns)
    screen.command(f"cat {HERE}/model.yaml    # what is added to {EXAMPLE}/model.yaml")
    in_use = "{scheme: CKKS, weightsConfigMapName: wdbc-weights, statistics: true}"
    screen.output(f"spec:\n  encryption:\n    inUse: {in_use}")
    return row, float(plain.predict_proba([row])[0, 1]), dict(zip(averaged, some.mean(axis=0).tolist(), strict=True))


def _manifests(weights: dict[str, object], columns: list[str]) -> None:
    model = yaml.safe_load((EXAMPLE / "model.yaml").read_text(encoding="utf-8"))
    model["spec"]["encryption"]["inUse"] = {
        "scheme": "CKKS",
        "weightsConfigMapName": "wdbc-weights",
        "statistics": True,
    }
    model["spec"]["schema"] = {
        "inputs": [{"name": "features", "datatype": "FP64", "shape": [-1, 30], "columns": columns}]
    }
    del model["spec"]["monitoring"], model["spec"]["explanations"]
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "wdbc-weights", "namespace": NAMESPACE},
        "data": {"weights.json": json.dumps(weights)},
    }
    (HERE / "model.yaml").write_text(yaml.safe_dump(model), encoding="utf-8")
    (HERE / "weights.yaml").write_text(yaml.safe_dump(config_map), encoding="utf-8")


@contextlib.contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _until_ready(screen: Screen, process: subprocess.Popen[bytes], url: str, what: str, log: Path) -> None:
    begun = time.monotonic()
    with screen.waiting(what) as tick:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own
                return
            if process.poll() is not None or time.monotonic() - begun > READY_SECONDS:
                raise NotAsToldError(f"{what}: it is not ready\n{log.read_text(errors='replace')[-2000:]}")
            tick(time.monotonic() - begun)
            time.sleep(0.3)


@contextlib.contextmanager
def _server(screen: Screen) -> Iterator[int]:
    screen.step("The model server", "The example's own, behind the sidecar: encrypted requests will not reach it.")
    _run(screen, sys.executable, EXAMPLE / "serve.py", "--only-prepare")
    log = HERE / "server.log"
    with _process([sys.executable, str(EXAMPLE / "serve.py")], log) as process:
        _until_ready(screen, process, "http://127.0.0.1:8080/v2/models/wdbc/ready", "the model is loaded", log)
        yield process.pid


@contextlib.contextmanager
def _sidecar(screen: Screen) -> Iterator[tuple[int, str]]:
    screen.step(
        "The sidecar", "The very one that runs in a cluster, and a process of its own that computes under encryption."
    )
    command = [*MODELWARD, "run", "-f", HERE / "model.yaml", "-f", HERE / "weights.yaml", "-f", BUILD / "jwks.yaml"]
    command += ["--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0", "--tls-out", HERE / "tls"]  # ports that are free
    screen.command(" ".join(["modelward", *map(str, command[3:])]))
    log = HERE / "sidecar.log"
    with _process([str(part) for part in command], log) as process:
        serving = _serving(process, log)
        _until_ready(screen, process, f"http://127.0.0.1:{serving['monitor']}/readyz", "the sidecar is ready", log)
        yield process.pid, f"https://localhost:{serving['port']}/v2/models/{MODEL}/infer"


def _serving(process: subprocess.Popen[bytes], log: Path) -> dict[str, int]:
    """The ports that the sidecar says it was given."""
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < READY_SECONDS:
        for line in log.read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # it says other things as well
                told = json.loads(line)
                if isinstance(told, dict) and told.get("message") == "serving":
                    return told
        time.sleep(0.1)
    raise NotAsToldError(f"the sidecar does not say where it listens\n{log.read_text(errors='replace')[-2000:]}")


def _sent(url: str, content: bytes) -> bytes:
    bearer = subprocess.run(
        [sys.executable, str(EXAMPLE / "client.py"), "token"], capture_output=True, text=True, check=True
    ).stdout.strip()
    header = {"content-type": "application/json", "authorization": f"Bearer {bearer}"}
    context = ssl.create_default_context(cafile=str(HERE / "tls" / "ca.crt"))
    try:
        request = urllib.request.Request(url, content, header)  # noqa: S310 - our own
        with urllib.request.urlopen(request, context=context) as answer:  # noqa: S310
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        raise NotAsToldError(f"{url}: {error.code} {error.read().decode(errors='replace')[:500]}") from error


def _asked(screen: Screen, url: str, expected: float) -> None:
    screen.step("The client", "Keys that never leave it; a request; an answer that only it can read.")
    keys = HERE / f"keys-{os.getpid()}"
    _run(screen, *MODELWARD, "he", "keygen", "--out", keys)
    request, answer = HERE / "request.json", HERE / "answer.json"
    encrypt = ("he", "encrypt", "--keys", keys, HERE / "rows.csv", "--model", MODEL, "--body", "--out", request)
    _run(screen, *MODELWARD, *encrypt)
    screen.command(f"curl --cacert {HERE}/tls/ca.crt {url} -H 'authorization: Bearer …' --data @{request} > {answer}")
    answer.write_bytes(_sent(url, request.read_bytes()))
    score = float(_run(screen, *MODELWARD, "he", "decrypt", "--keys", keys, answer))
    if abs(score - expected) > 1e-6:
        raise NotAsToldError(f"the decrypted score is {score}, the plain model's {expected}")
    screen.good(f"the plain model says {expected!r}: the same to {abs(score - expected):.0e}")


def _averaged(screen: Screen, url: str, means: dict[str, float]) -> None:
    screen.step("The mean of a column", f"Of {AVERAGED} encrypted rows: no weights, and the same keys.")
    keys, request, answer = HERE / f"keys-{os.getpid()}", HERE / "means.json", HERE / "means-answer.json"
    encrypt = ("he", "encrypt", "--keys", keys, HERE / "many.csv", "--statistic", "mean", "--model", MODEL, "--body")
    _run(screen, *MODELWARD, *encrypt, "--out", request)
    answer.write_bytes(_sent(url, request.read_bytes()))
    told = dict(
        line.rsplit(",", 1) for line in _run(screen, *MODELWARD, "he", "decrypt", "--keys", keys, answer).split()
    )
    off = max(abs(float(told[name]) - mean) for name, mean in means.items())
    if off > 1e-6:
        raise NotAsToldError(f"the decrypted means are {told}, those of the rows {means}")
    screen.good(f"the same as those of the rows, to {off:.0e}")


def _plain(screen: Screen, url: str, row: np.ndarray) -> None:
    screen.step("The same row, not encrypted", "So that it is seen that the search finds what is there.")
    body = {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 30], "data": row.tolist()}]}
    _sent(url, json.dumps(body).encode())
    screen.good("answered as well, by the model server")


def _searched(screen: Screen, pids: tuple[int, ...], numbers: list[float], *, held: bool) -> None:
    if not held:
        screen.step(
            "The proof", "All memory of sidecar, worker and model server, and their logs, searched for the row."
        )
    wanted = memory.patterns(numbers)
    found = [memory.search(pid, wanted) for one in pids for pid in memory.family(one)]
    table = Table("process", "pid", "MiB searched", "places that hold a number of the row")
    for one in found:
        table.add_row(_short(one.command), str(one.pid), f"{one.searched / 2**20:,.0f}", str(one.hits))
    logs = sum(log.read_bytes().count(pattern) for log in HERE.glob("*.log") for pattern in wanted)
    table.add_row("their logs", "", "", str(logs))
    screen.console.print(table)
    total = sum(one.hits for one in found)
    if logs or (total > 0) is not held:
        raise NotAsToldError(f"{total} places in memory and {logs} in logs hold numbers of the row")
    if held:
        screen.good(f"{total} places hold numbers of the row now: the search works, and nothing is in the logs")
    else:
        screen.good("nobody but the client has held a number of the row")


def _short(command: str) -> str:
    for part, name in (("encrypted.worker", "worker"), ("modelward", "sidecar"), ("mlserver", "model server")):
        if part in command:
            return name
    return command[:40]


if __name__ == "__main__":
    sys.exit(main())
