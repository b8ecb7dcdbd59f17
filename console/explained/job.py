"""Makes a past reply again from its traces; says what made it, and what another ranker would change."""

from __future__ import annotations

from aiokafka.errors import KafkaError

from headrace.agents.stage.trace_lookup import Rankers, traces_of
from headrace.serving.traces.explained import Figures, explained, instead
from headrace.serving.traces.replay import again, whole
from headrace.streams.messages.ids import use_key
from headrace.streams.settings import Settings
from headrace.streams.topics.refusal import unavailable


async def explain(settings: Settings, request_id: str, model: str = "") -> Figures:
    """Return what made a reply, and whether it is the same when it is made again.

    Parameters
    ----------
    request_id
        Of a request, or of one list of a page.
    model
        Another version of the ranker; empty: none.

    Raises
    ------
    NoTraceError
        There is no trace of the request.
    TraceError
        It cannot be read here, or no list can be made from it.
    ArtefactError
        There is no such ranker.
    UnavailableError
        No broker answers.
    """
    use_key(settings.id_key)
    try:
        traces = await traces_of(settings, request_id)
        rankers = await Rankers.of(settings)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    other = rankers.get(model) if model else None
    lists = [again(trace, rankers.own(trace)) for trace in traces]
    body, same = whole(traces, lists)
    told = []
    for trace, found in zip(traces, lists, strict=True):
        if request_id not in (trace.whole, trace.request.request_id):
            continue
        figures = explained(trace, found)
        if other is not None and trace.ranked is not None:
            figures["instead"] = instead(trace, found, again(trace, other, instead=True), model)
        told.append(figures)
    differs = [
        *([] if same else ["the bytes of the reply are others"]),
        *(d for one in told for d in one["differs"]),
    ]
    return {"request_id": traces[0].whole, "same": not differs, "reply": body.decode(), "lists": told}
