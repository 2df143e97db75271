"""The checks of one configuration, immutable; and what an exchange carries along while it goes through them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from modelward.detect.encoding import Array
from modelward.privacy.keys import Keys as PseudonymKeys
from modelward.sidecar import config
from modelward.sidecar.access import Access
from modelward.sidecar.answers import Answers
from modelward.sidecar.binary import Body
from modelward.sidecar.detection import Detection
from modelward.sidecar.exchange import Response
from modelward.sidecar.keys import Keys, given
from modelward.sidecar.routes import Route, Router
from modelward.sidecar.schema import Outputs, Schema
from modelward.sidecar.tensors import Tensor
from modelward.sidecar.ticket import Ticket
from modelward.sidecar.treatment import Treatments
from modelward.sidecar.upstream import Upstream

if TYPE_CHECKING:
    from modelward.sidecar.auditing import Auditing
    from modelward.sidecar.columns import Subject
    from modelward.sidecar.encrypted import EncryptedPath
    from modelward.sidecar.explaining import Explaining
    from modelward.sidecar.fairness import Fairness, Rows
    from modelward.sidecar.reidentification import Reidentification
    from modelward.sidecar.reidentification import Rows as Combined
    from modelward.sidecar.shared_limits import Counting
    from modelward.sidecar.tally import Rows as CountedRows


class Chain:
    """The checks of one configuration, and the connections to its model.

    `keys` gives an issuer's keys, `counting` is the common count of rate limits, `encrypted` takes requests that nobody
    here can read, `explained_weights` are a linear model's, `auditing` counts for auditors.

    Raises:
        ConfigError: the parts of the configuration do not fit one another, a key or the baseline cannot be used.
    """

    def __init__(
        self,
        settings: config.Config,
        baseline: bytes | None,
        upstream: Upstream,
        keys: Callable[[config.Issuer], Keys] = given,
        pseudonyms: PseudonymKeys | None = None,
        counting: "Counting | None" = None,
        encrypted: "EncryptedPath | None" = None,
        explained_weights: bytes | None = None,
        auditing: "Auditing | None" = None,
    ) -> None:
        self.settings = settings
        self.encrypted = encrypted
        self.auditing = auditing
        self.router = Router(settings.upstream.protocol, settings.upstream.model)
        self.access = Access(settings.access, keys, counting)
        self.schema = Schema(settings.upstream.protocol, settings.inputs, settings.undeclared_fields)
        self.outputs = Outputs(settings.outputs) if settings.outputs is not None else None
        declared = self.schema.declared
        self.kept = kept = auditing is not None and auditing.settings.only  # counts of groups are for auditors alone
        self.fairness: Fairness | None = None
        if settings.fairness is not None:
            from modelward.sidecar import fairness  # noqa: PLC0415 - for those who ask for it

            tally = None if auditing is None else lambda: auditing.tally  # another one, after a change
            self.fairness = fairness.Fairness(
                settings.fairness, declared, settings.upstream.protocol, tally=tally, kept=kept
            )
        self.reidentification: Reidentification | None = None
        if settings.reidentification is not None:
            from modelward.sidecar import reidentification  # noqa: PLC0415 - for those who ask for it

            self.reidentification = reidentification.Reidentification(
                settings.reidentification, declared, settings.fields, pseudonyms, settings.binding.name, kept=kept
            )
        # Asked of each request: one look where nothing is counted, as with most models.
        counters = (self.fairness, self.auditing, self.reidentification)
        self.counts = any(counter is not None for counter in counters)
        self.treated = tuple(f"{name}:{one.treatment}" for name, one in settings.fields.items())
        self.treatments = Treatments.build(settings, declared, pseudonyms)
        self.answers: Answers | None = None
        if self.treatments is not None:
            self.schema.optional = self.treatments.optional
            self.schema.treated = frozenset(settings.fields)
            self.answers = Answers(settings, pseudonyms)
            declared = {name: spec for name, spec in (declared or {}).items() if name not in self.treatments.dropped}
        # Detectors see what the model sees: their baselines are fitted on treated data.
        self.detection = Detection(settings, baseline, declared)
        self.explaining: Explaining | None = None
        if settings.explanations is not None:
            from modelward.sidecar import explaining  # noqa: PLC0415 - for those who ask for it

            self.explaining = explaining.Explaining(
                settings, settings.explanations, baseline, explained_weights, declared
            )
        self.upstream = upstream
        self.authority = f"{settings.upstream.host}:{settings.upstream.port}".encode()


class Work:
    """What one exchange carries along: its chain and route, and a ticket while its rate limit is being asked.

    A request to explain is one to infer whose answer is explained (`explains`): it goes by the same checks. `counts`:
    something of it is counted, of the groups and people that it is about.
    """

    __slots__ = (
        "answered", "chain", "combined", "counted", "counts", "explains", "flag", "groups", "probed", "route",
        "subjects", "tensors", "ticket", "watch",
    )  # fmt: skip

    def __init__(self, chain: Chain, route: Route, ticket: Ticket | None, *, counts: bool) -> None:
        self.ticket = ticket
        self.chain = chain
        self.counts = counts
        self.explains = chain.explaining is not None and route.operation == "Explain"
        self.route = route._replace(operation="Infer") if self.explains else route
        self.subjects: Sequence[Subject] = ()  # the rows to be explained, as the model gets them
        self.flag = b""
        self.tensors: list[Tensor] = []  # as the model got them; kept only where its answer is treated
        self.probed: Array | None = None  # rows that detectors ask the model about again
        self.groups: Rows | None = None  # of whom the rows are; kept only where that is counted
        self.combined: Combined | None = None  # as the model got them; kept only where they are counted
        self.answered: Response | None = None  # what the model said of them
        self.counted: CountedRows | None = None  # which cells they belong to; kept only where that is counted
        self.watch: Callable[[Body], None] | None = None  # looks at the answer; raises Refusal to withhold it
