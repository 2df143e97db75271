"""The example's model in KServe's Python server: run by that server's environment, not by modelward's.

python kserve_model.py model.joblib --model_name wdbc --http_port 8080 --enable_grpc false
"""

from __future__ import annotations

import argparse
import uuid

import joblib
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server
from kserve.errors import InvalidInput


class Classifier(Model):
    """A scikit-learn classifier that answers what MLServer's runtime answers for it."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._classifier = joblib.load(path)
        self.ready = True

    def get_input_types(self) -> list[dict]:
        return [{"name": "features", "datatype": "FP64", "shape": [-1, 30]}]

    def get_output_types(self) -> list[dict]:
        return [
            {"name": "predict", "datatype": "INT64", "shape": [-1, 1]},
            {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]},
        ]

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        rows = payload.inputs[0].as_numpy()
        answers = {
            "predict": ("INT64", self._classifier.predict(rows).reshape(-1, 1)),
            "predict_proba": ("FP64", self._classifier.predict_proba(rows)),
        }
        wanted = [output.name for output in payload.request_outputs or ()] or list(answers)
        outputs = []
        for name in dict.fromkeys(wanted):
            if name not in answers:
                raise InvalidInput(f"no output {name}")
            datatype, values = answers[name]
            output = InferOutput(name, list(values.shape), datatype)
            output.set_data_from_numpy(values, binary_data=False)
            outputs.append(output)
        return InferResponse(payload.id or str(uuid.uuid4()), self.name, outputs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, parents=[model_server.parser])
    parser.add_argument("path")
    given = parser.parse_args()
    ModelServer(
        http_port=given.http_port, enable_grpc=given.enable_grpc, workers=1, access_log_format=given.access_log_format
    ).start([Classifier(given.model_name, given.path)])
