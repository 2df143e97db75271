"""Makes what the example needs and a repository must not hold, in build/example/; run it again at any time.

wdbc.csv train.csv holdout.csv: the data set, checked against the digest that model.yaml names as its lineage
baseline.npz baseline.yaml: what normal rows look like, fitted by `modelward fit`; the same as a ConfigMap
issuer.key jwks.yaml: the key that signs the example's tokens; its public half as a ConfigMap
clinic-ml.key signers.yaml: the key of who answers for the lineage; its public half as a ConfigMap
steps.json: what model.yaml says was done to the data, for `modelward sign`
model.yaml (with --image): the manifest, its placeholder digest replaced
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import client
import yaml
from cryptography.hazmat.primitives import serialization

HERE = Path(__file__).resolve().parent
PLACEHOLDER = "modelward-example-wdbc@sha256:" + "0" * 64
LINEAGE = re.compile(r"lineage\.modelward\.io/dataset: (\S+)")
BY_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
FALSE_POSITIVE_RATE = "0.01"  # as model.yaml has it


def export_data(folder: Path) -> None:
    """Export the data set and check that it is the one the manifest names."""
    _run(sys.executable, HERE / "server" / "dataset.py", folder)
    digest = hashlib.sha256((folder / "wdbc.csv").read_bytes()).hexdigest()
    if f"{digest}  wdbc.csv" not in (HERE / "server" / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        sys.exit(f"prepare.py: {folder / 'wdbc.csv'} has the sha256 {digest}, another than server/SHA256SUMS names")


def fit_baseline(folder: Path) -> None:
    """Fit the baseline on the training rows, and wrap it into the ConfigMap wdbc-baseline."""
    modelward = Path(sys.executable).with_name("modelward")
    baseline = folder / "baseline.npz"
    # The training rows are a part of the data set that the manifest names as its lineage.
    named = LINEAGE.search((HERE / "model.yaml").read_text(encoding="utf-8"))
    lineage = ("--lineage", named[1]) if named else ()
    rate = ("--false-positive-rate", FALSE_POSITIVE_RATE)
    _run(modelward, "fit", folder / "train.csv", "--out", baseline, *rate, *lineage)
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "wdbc-baseline", "namespace": client.NAMESPACE},
        "binaryData": {"baseline.npz": base64.b64encode(baseline.read_bytes()).decode()},
    }
    (folder / "baseline.yaml").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")  # JSON is YAML


def make_signer(folder: Path) -> None:
    """Make the key that signs statements of lineage, unless it is there, and write what others need of it."""
    public = client.private_key(folder / "clinic-ml.key").public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "signers", "namespace": "modelward-system"},
        "data": {"clinic-ml.pub": pem.decode()},
    }
    (folder / "signers.yaml").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")  # JSON is YAML
    model = yaml.safe_load((HERE / "model.yaml").read_text(encoding="utf-8"))
    steps = model["metadata"]["annotations"]["lineage.modelward.io/transformations"]
    (folder / "steps.json").write_text(steps, encoding="utf-8")


def name_image(folder: Path, image: str) -> None:
    """Write the manifest with the image of this machine."""
    if not BY_DIGEST.fullmatch(image):
        sys.exit(f"prepare.py: --image {image}: give it by digest, as name@sha256:<64 hex digits>")
    text = (HERE / "model.yaml").read_text(encoding="utf-8")
    (folder / "model.yaml").write_text(text.replace(PLACEHOLDER, image), encoding="utf-8")


def _run(*command: str | Path) -> None:
    try:
        done = subprocess.run([str(part) for part in command], check=False)
    except FileNotFoundError:
        sys.exit(f"prepare.py: {command[0]} is not there: run `make setup`, and this with .venv/bin/python")
    if done.returncode:
        sys.exit(f"prepare.py: {Path(command[0]).name} {Path(command[1]).name} failed, see above")


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=client.BUILD, help="folder to fill (%(default)s)")
    parser.add_argument("--image", help="image of the model server, by digest")
    args = parser.parse_args()
    export_data(args.out)
    fit_baseline(args.out)
    try:
        client.keygen(args.out)
        make_signer(args.out)
    except client.UsageError as error:
        sys.exit(f"prepare.py: {error}")
    if args.image:
        name_image(args.out, args.image)
    print(f"{args.out} holds {', '.join(sorted(path.name for path in args.out.iterdir()))}")


if __name__ == "__main__":
    main()
