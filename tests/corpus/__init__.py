"""Manifests with the verdict that each must get, from every evaluator alike.

A case is a manifest judged by one policy; `breaks` is exactly what is found at admission, `not_ready` at readiness.
Most are the good manifest with one thing changed; every fixture of the catalogue is a case as well.
"""

from tests.corpus import access, encryption, fixtures, lineage, operation, scope  # noqa: F401 - each adds its cases
from tests.corpus.case import CASES, Case
from tests.corpus.policies import BASELINE, POLICIES, Manifest, good, policy

__all__ = ["BASELINE", "CASES", "POLICIES", "Case", "Manifest", "good", "policy"]
