"""What people send must not turn up where it was not sent to: not in logs, metrics or errors."""

from __future__ import annotations

import json

from tests.unit.sidecar.harness import infer, request, settings, token

CANARY = "canary-7f3a"
NUMBER = 73.731573


def test_values_appear_in_no_log_and_no_metric(run, capfd):
    running = run(
        inputs=[
            {"name": "x", "datatype": "FP64", "shape": [-1, 3], "columns": ["a", "b", "c"]},
            {"name": "note", "datatype": "BYTES", "shape": [-1]},
        ]
    )
    note = {"name": "note", "shape": [1], "datatype": "BYTES", "data": [CANARY]}
    good = {"inputs": [infer([NUMBER, 10, -5])["inputs"][0], note]}
    rows = infer()["inputs"][0]
    bodies = [
        good,
        {"inputs": [rows, note | {"name": CANARY}]},
        {"inputs": [rows, note | {"data": [CANARY, CANARY]}]},
        {"inputs": [rows | {"data": [CANARY, 1, 2]}, note]},
        {"inputs": [rows, note | {"datatype": CANARY}]},
        {"inputs": [rows, note], CANARY: 1},
        {"inputs": [rows, note | {"parameters": {CANARY: CANARY}}]},
        {"inputs": [rows, note], "id": CANARY},
        f'{{"inputs": "{CANARY}'.encode(),
    ]
    for body in bodies:
        running.ask(body)
    running.ask(good, target=f"/v2/models/{CANARY}/infer")
    running.ask(good, target=f"/v2?ssn={CANARY}")
    running.ask(good, header={"x-custom": CANARY, "cookie": CANARY, "user-agent": CANARY, "x-request-id": CANARY})
    running.ask(good, bearer=f"{CANARY}.{CANARY}.{CANARY}")
    running.ask(good, header={"x-modelward-purpose": CANARY})
    with running.client() as client:
        client.send(f"GET /{CANARY} HTTP/1.1\r\n{CANARY}\x00: {CANARY}\r\n\r\n".encode())
        client.read()

    def echo(connection, asked):
        connection.answer(asked.body, status=b"500 Oops")

    running.model.behaviour = echo
    running.ask(good)
    running.model.behaviour = lambda connection, asked: connection.transport.write(CANARY.encode())
    running.ask(good)
    lines = running.log(len(bodies) + 8)
    told = json.dumps(lines) + running.monitor("/metrics").body.decode() + "".join(capfd.readouterr())
    assert CANARY not in told
    assert str(NUMBER) not in told


def test_a_line_of_the_log_cannot_be_forged(run):
    forged = 'x"}\n{"time":"now","subject":"user:root","status":200}'
    access = settings()["access"] | {"rules": [{"subjects": ["*"], "operations": ["Infer"]}]}
    running = run(access=access)
    running.ask(infer(), bearer=token(sub=forged, purpose=forged))
    (line,) = running.log(1)
    assert line["subject"] == f"user:{forged}"
    assert len(running.log_path.read_text().splitlines()) == 2  # the start, and the record


def test_a_problem_does_not_repeat_what_was_sent(running):
    for body in (infer([CANARY, 1, 2]), infer(CANARY), infer([1, 2, 3], shape=[1, 4])):
        assert CANARY not in running.ask(body).body.decode()
    with running.client() as client:
        client.send(request(infer(), bearer=f"a.{CANARY}.b"))
        assert CANARY not in client.read().body.decode()
