"""The chain of checks, over real sockets."""

from __future__ import annotations

import json

import pytest

from tests.unit.sidecar.harness import ANSWER, NORMAL, STRANGE, Client, answers, infer, request, settings, token


def test_an_allowed_request_is_answered_by_the_model(running):
    answer = running.ask(infer())
    assert answer.status == 200
    assert answer.json["outputs"][0]["data"] == [1]
    (asked,) = running.model.asked
    assert (asked.method, asked.target) == ("POST", "/v2/models/m/infer")
    assert json.loads(asked.body)["inputs"][0]["data"] == NORMAL
    assert asked.header["x-request-id"] == answer.header["x-modelward-request-id"]


def test_nothing_of_the_client_goes_to_the_model_but_path_body_and_trace(running):
    running.ask(
        infer(), header={"cookie": "a=b", "x-forwarded-for": "1.2.3.4", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    )
    (asked,) = running.model.asked
    assert set(asked.header) == {"host", "x-request-id", "traceparent", "content-type", "content-length"}


def test_no_token_is_401_with_a_challenge(running):
    answer = running.ask(infer(), bearer=None)
    assert (answer.status, answer.problem) == (401, "unauthenticated")
    assert answer.header["www-authenticate"].startswith("Bearer")
    assert running.model.asked == []


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer x y", "Bearer a.b.c", "bearer"])
def test_other_credentials_are_401(running, header):
    assert running.ask(infer(), bearer=None, header={"authorization": header}).problem == "unauthenticated"


def test_the_scheme_is_case_insensitive(running):
    assert running.ask(infer(), bearer=None, header={"authorization": f"bEARER {token()}"}).status == 200


@pytest.mark.parametrize(
    "claims", [{"sub": "mallory"}, {"purpose": "marketing"}, {"purpose": None}, {"purpose": ["diagnosis"]}]
)
def test_no_rule_no_answer(running, claims):
    answer = running.ask(infer(), bearer=token(**claims))
    assert (answer.status, answer.problem) == (403, "forbidden")
    assert running.model.asked == []


def test_an_operation_that_the_rule_does_not_name_is_403(run):
    document = settings()["access"]
    document["rules"] = [{"subjects": ["user:alice"], "operations": ["Metadata"]}]
    running = run(access=document)
    assert running.ask(infer()).problem == "forbidden"
    assert running.ask(method="GET", target="/v2/models/m").status == 200


def test_the_purpose_header_counts_only_where_it_is_let(run):
    header = {"x-modelward-purpose": "diagnosis"}
    bearer = token(purpose=None)
    assert run().ask(infer(), bearer=bearer, header=header).problem == "forbidden"
    lax = run(access=settings()["access"] | {"purposeHeader": True})
    assert lax.ask(infer(), bearer=bearer, header=header).status == 200
    # The token's claim wins: a header cannot talk it out of what it was given for.
    assert lax.ask(infer(), bearer=token(purpose="billing"), header=header).problem == "forbidden"


def test_the_rate_limit_is_exact_and_says_when(running):
    bearer = token(sub="limited")
    with running.client() as client:
        statuses = []
        for _ in range(4):
            client.send(request(infer(), bearer=bearer))
            answer = client.read()
            statuses.append(answer.status)
    assert statuses == [200, 200, 429, 429]
    assert 1 <= int(answer.header["retry-after"]) <= 60
    assert len(running.model.asked) == 2


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("/v2/models/other/infer", "not-found"),
        ("/v2/models/m/infer?x=1", "not-found"),
        ("/v2/models/m/infer/", "not-found"),
        ("/v2/models/m/../m/infer", "not-found"),
        ("/v2/models/%6d/infer", "not-found"),
        ("/v2/repository/models/m/unload", "not-found"),
        ("/v1/models/m:predict", "not-found"),
        ("/metrics", "not-found"),
        ("/", "not-found"),
    ],
)
def test_any_other_path_is_404(running, target, problem):
    assert running.ask(infer(), target=target).problem == problem
    assert running.model.asked == []


def test_a_stranger_learns_nothing_of_the_paths(running):
    assert running.ask(infer(), bearer=None, target="/nowhere").problem == "unauthenticated"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_wrong_method_is_405(running, method):
    answer = running.ask(None, method=method)
    assert (answer.status, answer.header["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "target", ["/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/m", "/v2/models/m/versions/1/ready"]
)
def test_metadata_is_passed_on(running, target):
    running.model.unready = True  # so that every question is recorded
    assert running.ask(method="GET", target=target).status == 200
    assert running.ask(method="HEAD", target=target).body == b""
    asked = [one for one in running.model.asked if one.target == target.rstrip("/") and "x-request-id" in one.header]
    assert [one.method for one in asked] == ["GET", "GET"]


@pytest.mark.parametrize(
    "header",
    [
        {"content-type": "text/plain"},
        {"content-type": ""},
        {"content-type": "application/json; charset=latin-1"},
        {"content-encoding": "gzip"},
        {"inference-header-content-length": "10"},
    ],
)
def test_anything_but_plain_json_is_415(running, header):
    assert running.ask(infer(), header=header).problem == "unsupported-media-type"


def test_json_with_a_charset_is_taken(running):
    assert running.ask(infer(), header={"content-type": "Application/JSON; charset=UTF-8"}).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"inputs": [}', b"{}x"])
def test_what_is_not_json_is_400(running, body):
    assert running.ask(body, header={"content-length": str(len(body))}).problem == "malformed-json"


def test_what_does_not_fit_is_422_and_says_where(running):
    answer = running.ask(infer([1, "two", 3]))
    assert (answer.status, answer.problem) == (422, "schema-violation")
    assert "`x`" in answer.json["detail"]
    assert "[1]" in answer.json["detail"]
    assert "two" not in answer.json["detail"]


def test_an_anomalous_row_is_blocked_and_the_answer_helps_nobody(running):
    answer = running.ask(infer(STRANGE))
    assert (answer.status, answer.problem) == (403, "anomalous-input")
    text = answer.body.decode()
    assert not any(word in text for word in ("score", "Mahalanobis", '"b"', "threshold"))
    assert running.model.asked == []
    assert running.metric('modelward_anomalies_total{detector="Mahalanobis",action="blocked"}') == 1


def test_one_strange_row_among_many_blocks_them_all(running):
    body = infer([*NORMAL * 5, *STRANGE], shape=[6, 3])
    assert running.ask(body).problem == "anomalous-input"


def test_flag_forwards_and_marks(run):
    running = run(screening=settings()["screening"] | {"onAnomaly": "Flag"})
    answer = running.ask(infer(STRANGE))
    assert (answer.status, answer.header["x-modelward-verdict"]) == (200, "anomalous")
    assert json.loads(running.model.asked[0].body)["inputs"][0]["data"] == STRANGE
    assert "x-modelward-verdict" not in running.ask(infer(NORMAL)).header


def test_sanitise_clips_to_what_the_baseline_has_seen(run):
    running = run(screening=settings()["screening"] | {"onAnomaly": "Sanitise"})
    answer = running.ask(infer(STRANGE))
    assert answer.header["x-modelward-verdict"] == "sanitised"
    sent = json.loads(running.model.asked[0].body)["inputs"][0]["data"]
    assert sent[0] == STRANGE[0]
    assert 11 < sent[1] < 15


def test_declared_outputs_are_held_to(run):
    running = run(outputs=[{"name": "y", "datatype": "INT64", "shape": [-1]}])
    assert running.ask(infer()).status == 200
    leaky = {"outputs": [{"name": "training_row", "datatype": "INT64", "shape": [1], "data": [1]}]}
    for body in (leaky, {"outputs": [{"name": "y", "datatype": "FP64", "shape": [1], "data": [1]}]}, {}, [1]):
        running.model.behaviour = lambda connection, _, body=body: connection.answer(json.dumps(body).encode())
        answer = running.ask(infer())
        assert (answer.status, answer.problem) == (502, "bad-upstream")
        assert "training_row" not in answer.body.decode()


def test_v1_predict(run):
    running = run(upstream={"port": 1, "model": "m", "protocol": "v1", "readyPath": "/v1/models/m"})
    running.model.behaviour = lambda connection, _: connection.answer(b'{"predictions": [1]}')
    assert running.ask({"instances": [NORMAL]}, target="/v1/models/m:predict").json == {"predictions": [1]}
    assert running.ask({"instances": [STRANGE]}, target="/v1/models/m:predict").problem == "anomalous-input"
    assert running.ask({"instances": [[1, 2]]}, target="/v1/models/m:predict").problem == "schema-violation"
    asked = [one for one in running.model.asked if one.method == "POST"]
    assert [json.loads(one.body) for one in asked] == [{"instances": [NORMAL]}]


def test_readiness_follows_the_model(running):
    for _ in range(100):
        if running.monitor("/readyz").status == 200:
            break
    assert running.monitor("/healthz").status == 200
    assert running.monitor("/readyz").status == 200
    assert running.monitor("/elsewhere").problem == "not-found"
    with Client(running.sidecar.monitor.port) as client:
        client.send(b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert client.read().problem == "method-not-allowed"


def test_the_record_of_a_request(running):
    answer = running.ask(infer(), bearer=token(groups=["oncology"]))
    running.ask(infer(), bearer=None)
    first, second = running.log(2)
    assert first["request"] == answer.header["x-modelward-request-id"]
    assert {name: first[name] for name in ("subject", "issuer", "address", "purpose", "method", "operation")} == {
        "subject": "user:alice",
        "issuer": "issuer",
        "address": "127.0.0.1",
        "purpose": "diagnosis",
        "method": "POST",
        "operation": "Infer",
    }
    assert (first["model"], first["fields"], first["rows"], first["status"]) == ("m", ["x"], 1, 200)
    assert first["upstream_us"] > 0
    assert first["overhead_us"] > 0
    assert (second["status"], second["reason"]) == (401, "token-missing")
    assert "subject" not in second
    assert running.metric('modelward_requests_total{outcome="answered"}') == 1
    assert running.metric('modelward_requests_total{outcome="unauthenticated"}') == 1
    assert running.metric("modelward_overhead_seconds_count") == 2


SEVERAL = settings()["screening"] | {"detectors": [{"type": "Ensemble"}, {"type": "NearestNeighbours"}]}


def test_the_record_tells_which_detector_and_the_scores_and_no_value(run):
    running = run(screening=SEVERAL)
    answer = running.ask(infer(STRANGE))
    running.ask(infer())
    flagged, ordinary = running.log(2)
    assert answer.problem == "anomalous-input"
    assert flagged["detector"] in ("Ensemble", "NearestNeighbours")
    assert flagged["scores"].keys() == {"Ensemble", "NearestNeighbours"}
    assert flagged["scores"][flagged["detector"]] > 1
    assert not {"values", "reasons"} & flagged.keys()
    assert not {"detector", "scores", "verdict", "values"} & ordinary.keys()
    (start,) = [each["start"] for each in map(json.loads, running.log_path.read_text().splitlines()) if "start" in each]
    assert start["baseline"] == "sha256:" + SEVERAL["baseline"]["sha256"]
    assert start["detectors"] == "Ensemble=0.01 NearestNeighbours=0.01"


def test_values_are_recorded_where_a_policy_says_so_as_the_model_got_them(run):
    running = run(
        recordValues=True,
        screening=SEVERAL | {"onAnomaly": "Sanitise"},
        fields={"a": {"treatment": "Round", "digits": 0}, "note": {"treatment": "Drop"}},
        inputs=[*settings()["inputs"], {"name": "note", "datatype": "BYTES", "shape": [-1]}],
    )
    note = {"name": "note", "shape": [1], "datatype": "BYTES", "data": ["canary-17"]}
    assert running.ask({"inputs": [infer([0.4, 10.5, -5.25])["inputs"][0], note]}).status == 200
    assert running.ask({"inputs": [infer(STRANGE)["inputs"][0], note]}).status == 200
    ordinary, sanitised = running.log(2)
    assert ordinary["values"] == {"x": [0.0, 10.5, -5.25]}
    assert sanitised["values"]["x"] == json.loads(running.model.asked[-1].body)["inputs"][0]["data"]
    assert sanitised["values"]["x"][1] < 20
    assert any(reason.startswith("b is ") for reason in sanitised["reasons"])
    assert "canary-17" not in running.log_path.read_text()


def test_too_many_values_are_not_recorded_and_the_line_stays_short(run):
    running = run(recordValues=True, screening={})
    assert running.ask(infer([0.123456789] * 3000, shape=[1000, 3])).status == 200
    (line,) = running.log(1)
    assert line["values"] == "too large"


@pytest.mark.parametrize("status", [b"200 OK", b"201 Created", b"203 Non-Authoritative Information"])
def test_no_success_goes_past_the_checks_whatever_its_number(run, status):
    running = run(outputs=[{"name": "y", "datatype": "INT64", "shape": [-1]}])
    other = ANSWER | {"outputs": [{"name": "z", "shape": [1], "datatype": "BYTES", "data": ["Alice"]}]}
    running.model.behaviour = lambda connection, _: connection.answer(json.dumps(other).encode(), status=status)
    answer = running.ask(infer())
    assert (answer.status, answer.problem) == (502, "bad-upstream")
    assert b"Alice" not in answer.body


@pytest.mark.parametrize("status", [b"299 Odd", b"499 Odd", b"999 Odd"])
def test_a_status_that_nobody_knows_keeps_nobody_waiting(run, status):
    running = run()
    running.model.behaviour = lambda connection, _: connection.answer(b"{}", status=status)
    answer = running.ask(infer())
    assert (answer.status, answer.problem) == (502, "bad-upstream")
    running.model.behaviour = answers
    assert running.ask(infer()).status == 200
