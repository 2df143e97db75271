"""`modelward`, also reachable as `kubectl modelward`: verbs are modules, imported when they are called."""

from __future__ import annotations

import importlib
import sys

import click

from modelward import __version__

VERBS: dict[str, str] = {
    "attack": "Attack your own model over its endpoint, and tell what it withstands: the security test.",
    "audit": "Open counters that sidecars encrypt to an auditor's key and nobody else can read.",
    "backstop": "Print the ValidatingAdmissionPolicies that hold with every modelward pod dead.",
    "check": "Judge manifests offline: which rules they break, where, why and how to mend it.",
    "crds": "Print the custom resource definitions.",
    "feedback": "Take flagged requests that were ordinary from an access log, for the next fit.",
    "fit": "Fit a baseline of normal inputs on reference data.",
    "he": "Have a model score what it cannot read: keys, requests and answers under homomorphic encryption.",
    "inject": "Print a pod or workload with its sidecar.",
    "lineage": "Tell where a model's data came from and who got its answers; or how far data have gone.",
    "plan": "Print the objects that the controller would make.",
    "pseudonym": "Print the pseudonyms of values, to find them in records.",
    "release": "Let a client out of quarantine, in all pods of a model.",
    "report": "Write the audit page: register, verdicts, lineage, incidents; one file, no network.",
    "rules": "List the rules, or those of one framework.",
    "run": "Run the sidecar here, in front of a model, without a cluster.",
    "scan-data": "Look through training data for poison, repeats, identifiers and people that stand out.",
    "score": "Score rows against a baseline.",
    "sign": "Sign a statement about a model or a data set: what it consists of, or what it was made of.",
    "token": "Make the key that tokens are sealed to, and undo tokens.",
    "top": "Show a cluster's models: whether they are ready, and what their sidecars answer.",
    "verify-log": "Try the chain of an access log: which lines were changed, moved or taken away.",
    "version": "Print the version.",
}


class _Verbs(click.Group):
    """Loads a verb's module when it is asked for: `check` must not wait for numpy."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"modelward.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(sorted(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """Make machine-learning models in Kubernetes private and secure by design.

    Exit codes: 0 fine, 1 findings, 2 usage or unreadable input.
    """


def main() -> None:
    """Run the command line."""
    try:
        cli.main(prog_name="modelward")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "modelward":
            raise
        click.echo(
            f"modelward: this verb needs the package {error.name}, which is not installed. "
            "Install the extra that has it: pip install 'modelward[sidecar]' for run, fit, score, scan-data and sign; "
            "'modelward[jobs]' for parquet.",
            err=True,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
