"""Judging one model at the gateway: its declared window, its answers, and what it refuses before an engine hears of it.

That a refused call never reached an engine is shown twice. Its request id is in no engine's journal, which proves
something only because the ids of the answered calls are there (`journal.control`). And as vLLM turns an over-long
prompt away before it logs the id, the engines' own count of 4xx answers must not have moved.
"""

from collections.abc import Iterator
from http import HTTPStatus

from sizing.observation import ACCEPTED_KINDS, CallKind, CallObservation, GatewayObservation, Observation
from sizing.plan import Plan, PlannedModel
from sizing.report import Check
from sizing.verdicts import compare, figure, status_text


def judge_model(plan: Plan, model: PlannedModel, observation: Observation) -> Iterator[Check]:
    """The checks of one model, at every gateway that could be asked."""
    for host in plan.gateway.hosts:
        gateway = observation.gateways.get(host)
        if gateway is None or gateway.error:
            continue
        subject = model.name if len(plan.gateway.hosts) == 1 else f"{model.name} at {host}"
        yield _deployments(plan, subject, model, gateway)
        yield _window(plan, subject, model, gateway, observation)
        if model.task == "embedding":
            yield _vector(subject, _call(gateway, model, "embedding"))
            continue
        yield _chat(subject, _call(gateway, model, "chat"))
        yield _stream(subject, _call(gateway, model, "stream"))
        yield _over_long(subject, model, _call(gateway, model, "over-long"), observation)
        yield _over_window(subject, model, _call(gateway, model, "over-window"), observation)


def judge_journal(observation: Observation) -> Iterator[Check]:
    """The positive control: without it, an id that is absent from the journals would prove nothing."""
    accepted = [
        call.request_id
        for gateway in observation.gateways.values()
        for call in gateway.calls
        if call.kind in ACCEPTED_KINDS and call.status == HTTPStatus.OK
    ]
    if not accepted:
        return
    found = _ids_in_journals(observation)
    present = [request_id for request_id in accepted if request_id in found]
    yield compare(
        "journal.control",
        "engines",
        "the journals of the engines name every answered call",
        expected=f"{len(accepted)} of {len(accepted)} request ids",
        seen=f"{len(present)} of {len(accepted)}{_unread(observation)}",
        holds=len(present) == len(accepted),
        advice="the engines need enable-log-requests, and the gateway has to hand X-Request-Id on; until they do, "
        "nothing shows that a refused call never reached an engine",
    )


def _deployments(plan: Plan, subject: str, model: PlannedModel, gateway: GatewayObservation) -> Check:
    planned = sorted(one.api_base for one in plan.gateway.deployments if one.model == model.name)
    declared = sorted(one.api_base for one in gateway.declared if one.model == model.name)
    return compare(
        "model.deployments",
        subject,
        "the gateway routes the model to its relay and nowhere else",
        expected=", ".join(planned),
        seen=", ".join(declared) or "the gateway does not know the model",
        holds=declared == planned,
        advice="run site.yml; the gateway reads its configuration when it starts",
    )


def _window(
    plan: Plan, subject: str, model: PlannedModel, gateway: GatewayObservation, observation: Observation
) -> Check:
    declared = [one for one in gateway.declared if one.model == model.name]
    says = sorted({_declared_text(one.max_input_tokens, one.max_output_tokens) for one in declared})
    engines = [observation.engine(one.host, one.engine) for one in model.deployments]
    windows = [one.max_model_len for one in engines if one is not None and one.max_model_len is not None]
    agree = (
        bool(declared)
        and all(one.max_input_tokens == model.max_input_tokens for one in declared)
        # LiteLLM makes up an answer's length for a model of vectors.
        and (model.task == "embedding" or all(one.max_output_tokens == model.max_output_tokens for one in declared))
        and (not windows or min(windows) == model.window_tokens)
    )
    smallest = figure(min(windows), "tokens") if windows else "not observed"
    return compare(
        "model.window",
        subject,
        "gateway, engines and plan name the same window",
        expected=f"{_declared_text(model.max_input_tokens, model.max_output_tokens)}, smallest engine "
        f"{figure(model.window_tokens, 'tokens')}",
        seen=f"{'; '.join(says) or 'nothing declared'}, smallest engine {smallest}",
        holds=agree,
        advice=f"run site.yml so that gateway and engines are placed from the same plan ({plan.digest()[:19]})",
    )


def _chat(subject: str, call: CallObservation | None) -> Check:
    return compare(
        "model.chat",
        subject,
        "a chat is answered with text",
        expected="200 with text, from the model itself",
        seen=_answer_text(call),
        holds=call is not None and _answered(call),
        advice="`journalctl -u litellm -n 50` on the gateway host names the engine it asked and what it heard",
    )


def _vector(subject: str, call: CallObservation | None) -> Check:
    numbers_count = 0 if call is None else call.vector_numbers_count
    answered = call is not None and call.status == HTTPStatus.OK and not call.attempted_fallbacks_count
    return compare(
        "model.embedding",
        subject,
        "a text is answered with a vector",
        expected="200 with a vector, from the model itself",
        seen=f"{_answer_text(call)}, {figure(numbers_count, 'numbers')}",
        holds=answered and numbers_count > 0,
        advice="`journalctl -u litellm -n 50` on the gateway host names the engine it asked and what it heard",
    )


def _stream(subject: str, call: CallObservation | None) -> Check:
    ending = "" if call is None else f", {'[DONE] after a finish reason' if call.done_after_finish else 'no clean end'}"
    return compare(
        "model.stream",
        subject,
        "a streamed chat ends as it should",
        expected="200 with text, no error event, [DONE] after a finish reason",
        seen=_answer_text(call) + ending,
        holds=call is not None and _answered(call) and call.done_after_finish and not call.error,
        advice="[DONE] alone is no success: LiteLLM and vLLM send it after an error, too. Look at the engine's journal",
    )


def _over_long(subject: str, model: PlannedModel, call: CallObservation | None, observation: Observation) -> Check:
    refused, text = _refusal(model, call, observation)
    engines = [(one.host, one.engine) for one in model.deployments if observation.engine(one.host, one.engine)]
    counts = [_refused_by_engine(observation, host, name) for host, name in engines]
    unmoved = all(before is not None and before == after for before, after in counts)
    moved = "" if unmoved else f", engines' 4xx count moved {_counts_text(engines, counts)}"
    return compare(
        "model.over-long",
        subject,
        "an over-long prompt is refused by the gateway and no engine hears of it",
        expected=f"400 naming {figure(model.window_tokens)} or {figure(model.max_input_tokens)} tokens, "
        "its id in no journal, no 4xx at the engines",
        seen=text + (moved or ", no 4xx at the engines"),
        holds=refused and unmoved,
        advice="enable_pre_call_checks and the token hook of the gateway refuse such prompts: run site.yml. If other "
        "clients sent bad requests at the same moment, run verify again",
    )


def _over_window(subject: str, model: PlannedModel, call: CallObservation | None, observation: Observation) -> Check:
    refused, text = _refusal(model, call, observation)
    return compare(
        "model.over-window",
        subject,
        "prompt and max_tokens one token beyond the window are refused",
        expected=f"400 naming {figure(model.window_tokens)} tokens, its id in no journal",
        seen=text,
        holds=refused,
        advice="an engine would cut the answer silently; the gateway's token hook has to refuse it: run site.yml",
    )


def _refusal(model: PlannedModel, call: CallObservation | None, observation: Observation) -> tuple[bool, str]:
    """Whether the gateway refused by itself and with the figures; and what was seen."""
    if call is None:
        return False, "was not tried"
    figures = {str(model.window_tokens), str(model.max_input_tokens)}
    words = set("".join(one if one.isdigit() else " " for one in call.message.replace(",", "")).split())
    numbered = bool(figures & words)
    reached = call.request_id in _ids_in_journals(observation)
    text = status_text(call.status, call.error)
    if call.message:
        text += f" {'with' if numbered else 'without'} the figures"
    text += ", its id in a journal" if reached else f", its id in no journal{_unread(observation)}"
    return call.status == HTTPStatus.BAD_REQUEST and numbered and not reached, text


def _answered(call: CallObservation) -> bool:
    return call.status == HTTPStatus.OK and call.text_characters > 0 and call.attempted_fallbacks_count == 0


def _answer_text(call: CallObservation | None) -> str:
    if call is None:
        return "was not tried"
    text = status_text(call.status, call.error)
    if call.status == HTTPStatus.OK:
        text += f" with {figure(call.text_characters, 'characters')}"
        text += f", {call.error}" if call.error else ""
    elif call.message:
        text += f": {call.message}"
    return text + (f", after {call.attempted_fallbacks_count} fallback" if call.attempted_fallbacks_count else "")


def _call(gateway: GatewayObservation, model: PlannedModel, kind: CallKind) -> CallObservation | None:
    return next((call for call in gateway.calls if call.model == model.name and call.kind == kind), None)


def _refused_by_engine(observation: Observation, host: str, name: str) -> tuple[int | None, int | None]:
    after = observation.engine(host, name)
    return observation.refused_before(host, name), after.refused_chat_count if after else None


def _counts_text(engines: list[tuple[str, str]], counts: list[tuple[int | None, int | None]]) -> str:
    return "; ".join(
        f"at {host}/{name} from {figure(before)} to {figure(after)}"
        for (host, name), (before, after) in zip(engines, counts, strict=True)
        if before is None or before != after
    )


def _ids_in_journals(observation: Observation) -> set[str]:
    return {one for engines in observation.engines.values() for seen in engines for one in seen.journal_request_ids}


def _unread(observation: Observation) -> str:
    unread = [
        f"{host}/{seen.name}"
        for host, engines in observation.engines.items()
        for seen in engines
        if not seen.journal_read
    ]
    return f" (not read: {', '.join(unread)})" if unread else ""


def _declared_text(input_tokens: int | None, output_tokens: int | None) -> str:
    return f"{figure(input_tokens)} in + {figure(output_tokens)} out"
