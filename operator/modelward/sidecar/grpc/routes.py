"""The methods of the inference protocol's gRPC service, and what each one means to the access rules."""

from modelward.sidecar.config import Operation
from modelward.sidecar.problems import Refusal
from modelward.sidecar.routes import Route

SERVICE = b"/inference.GRPCInferenceService/"
_METHODS: dict[bytes, Operation] = {
    b"ServerLive": "Metadata",
    b"ServerReady": "Metadata",
    b"ModelReady": "Metadata",
    b"ServerMetadata": "Metadata",
    b"ModelMetadata": "Metadata",
    b"ModelInfer": "Infer",
}
NAMED = frozenset((SERVICE + b"ModelReady", SERVICE + b"ModelMetadata"))  # name and version of a model, no more
INFER = SERVICE + b"ModelInfer"


class Router:
    """Finds routes to one model; each of them has a body, as every call of gRPC has."""

    def __init__(self, model: str) -> None:
        self._routes = {
            SERVICE + name: Route(operation, model if b"Model" in name else None, has_body=True)
            for name, operation in _METHODS.items()
        }

    def route(self, method: bytes, target: bytes) -> Route:
        """The route of `target`; raises Refusal."""
        if method != b"POST":
            raise Refusal("bad-framing", "A call of gRPC is a POST.")
        route = self._routes.get(target)
        if route is None:
            raise Refusal(
                "not-implemented",
                "This model speaks the Open Inference Protocol's GRPCInferenceService: ServerLive, ServerReady, "
                "ModelReady, ServerMetadata, ModelMetadata and ModelInfer; no other method is open.",
            )
        return route
