"""Serving: one engine under load, as vLLM's V1 scheduler would run it; a discrete-event simulation.

A step of the engine (v1/core/sched/scheduler.py, 0.32.0): every running request gets its next token, the one whose
prompt is half done its next chunk; what is left of max-num-batched-tokens goes to waiting requests, first come first
served, while fewer than max-num-seqs run and the whole prompt fits into free blocks (scheduler_reserve_full_isl).
A request whose prompt is done yields its first token at the end of that step. Where the blocks run out, the request
that was admitted last loses its own, waits at the head of the queue and is computed again; nobody is admitted then.

Time is only looked at where something happens: between two events (arrival, last token, blocks run out) all steps
have the same requests in them, and step time is linear in their context, so that k steps take k times the step in the
middle. Blocks are counted with their expected rounding: half a block for every group that grows. What a prefix cache
has is not computed again, and its blocks are counted in full all the same, which is on the safe side.

With asynchronous scheduling the batch after the running one is chosen when that one starts (`step_with_batch_queue`
of v1/engine/core.py, 0.32.0), so that who comes while a batch runs waits for the one after it, too.

Simplified: no speculative tokens, one priority, and a preempted request finds nothing of its own in the prefix cache.
"""

from collections import deque
from heapq import heappop, heappush
from math import ceil, inf

from sizing.arrivals import Source
from sizing.quantiles import Quantiles
from sizing.served import EngineLimits, Served, StepSeconds

__all__ = ["EngineLimits", "Journal", "Served", "StepSeconds", "simulate"]

Journal = list[tuple[int, int, int, float, int, int]]
"""Steps: decoding requests, their context tokens, prefill tokens, pairs; how many steps were alike, and how many
requests had got their first token and not their last, those that gave way included."""

MOST_WAITING = 20_000
"""A queue this long never ends: the engine is beyond its limit, and the simulation stops."""

LONGEST_RATIO = 4
"""So many times the asked time is simulated at most while the last measured requests are answered."""


class _Request:
    __slots__ = (
        "arrival",
        "finish_step",
        "first",
        "held_blocks",
        "latest",
        "made",
        "output",
        "prompt",
        "start_step",
        "todo",
    )

    def __init__(self, arrival: float, prompt: int, output: int) -> None:
        self.arrival = arrival
        self.prompt = prompt
        self.output = output
        self.first = 0.0
        self.made = 0
        self.todo = 0
        self.held_blocks = 0.0
        self.start_step = 0
        self.finish_step = -1
        self.latest = arrival


def simulate(  # noqa: PLR0912, PLR0915 - one loop: calls in it would cost more than what they do
    limits: EngineLimits,
    step_seconds: StepSeconds,
    source: Source,
    *,
    seconds: float,
    warm_up_seconds: float = 0.0,
    ttft_seconds: float = inf,
    tpot_seconds: float = inf,
    give_up_count: float = inf,
    journal: Journal | None = None,
) -> Served:
    """Runs until every request that came before `seconds` (and after the warm-up) is answered, or more than
    `give_up_count` of them have missed one of the times: then the rest cannot help any more. `journal` takes every
    step, with how many steps it stands for."""
    ttft, tpot, itl, e2e = Quantiles(), Quantiles(), Quantiles(), Quantiles()
    batch_tokens, most_running = limits.max_num_batched_tokens, limits.max_num_seqs
    blocks, per_token, fixed = limits.kv_blocks, limits.blocks_per_token, limits.fixed_blocks
    computed_ratio, runs_ahead = 1.0 - limits.prefix_hit_ratio, limits.runs_ahead
    waiting: deque[_Request] = deque()
    order: list[_Request] = []
    finishing: dict[int, list[_Request]] = {}
    finish_steps: list[int] = []
    partial: _Request | None = None
    now, last_start, step, decoding, context, used = 0.0, 0.0, 0, 0, 0, 0.0
    measured_open, good, preempted, refused, late_first, late_each, offered, set_back = 0, 0, 0, 0, 0, 0, 0, 0
    answered, made_tokens, prompt_tokens, busy, area, peak_used = 0, 0, 0, 0.0, 0.0, 0.0
    overloaded = False
    while now < seconds or measured_open > 0:
        while source.next_seconds <= now:
            arrival = source.next_seconds
            request = _Request(arrival, *source.take())
            waiting.append(request)
            if warm_up_seconds <= arrival < seconds:
                measured_open += 1
                offered += 1
        if len(waiting) > MOST_WAITING or now > LONGEST_RATIO * seconds:
            overloaded = True
            break
        if late_first > give_up_count or late_each > give_up_count:
            break

        # Running requests first: a block for each token that grows into one, or the last admitted gives way.
        gave_way = False
        while used + decoding * per_token > blocks and decoding + (partial is not None) > 1:
            while order[-1].finish_step < step and order[-1] is not partial:
                order.pop()
            victim = order.pop()
            if victim is partial:
                partial = None
                used -= victim.held_blocks
            else:
                done = step - victim.start_step
                finishing[victim.finish_step].remove(victim)
                decoding -= 1
                context -= victim.prompt + done + 1
                used -= victim.held_blocks + done * per_token
                victim.made += done + 1
                victim.prompt += done + 1
                victim.output -= done + 1
                victim.latest = now
                set_back += 1
            waiting.appendleft(victim)
            preempted += 1
            gave_way = True

        budget = batch_tokens - decoding
        prefill, pairs = 0, 0.0
        completed: list[_Request] = []
        if partial is not None:
            chunk = min(partial.todo, budget)
            pairs += chunk * (partial.prompt - partial.todo + 0.5 * chunk + 0.5)
            partial.todo -= chunk
            budget -= chunk
            prefill += chunk
            if partial.todo == 0:
                completed.append(partial)
                partial = None
        running = decoding + len(completed) + (partial is not None)
        seen_until = last_start if runs_ahead and running else now
        while waiting and budget > 0 and running < most_running and partial is None and not gave_way:
            request = waiting[0]
            if request.arrival > seen_until:
                break
            held = fixed + request.prompt * per_token
            if used + decoding * per_token + held > blocks:
                if running:
                    break
                waiting.popleft()
                refused += 1
                if warm_up_seconds <= request.arrival < seconds:
                    measured_open -= 1
                source.finished(now)
                continue
            waiting.popleft()
            request.held_blocks = held
            used += held
            computed = max(1, round(request.prompt * computed_ratio))
            chunk = computed if computed < budget else budget
            pairs += chunk * (request.prompt - computed + 0.5 * chunk + 0.5)
            request.todo = computed - chunk
            request.finish_step = -1
            budget -= chunk
            prefill += chunk
            running += 1
            order.append(request)
            if request.todo:
                partial = request
            else:
                completed.append(request)

        if prefill:
            count = 1
            took = step_seconds(decoding, context, prefill, pairs)
            total = took
        elif decoding:
            count = finish_steps[0] - step + 1
            if per_token:
                room = int((blocks - used) / (decoding * per_token))
                if room < count:
                    count = room if room > 1 else 1
            took = step_seconds(decoding, context + decoding * (count - 1) // 2, 0, 0.0)
            if not waiting:
                gap = source.next_seconds - now
                if took * count > gap:
                    count = min(count, max(1, ceil(gap / took) + runs_ahead))
                    took = step_seconds(decoding, context + decoding * (count - 1) // 2, 0, 0.0)
                    count = min(count, max(1, ceil(gap / took) + runs_ahead))
            elif waiting[0].arrival > seen_until:
                count = 1
                took = step_seconds(decoding, context, 0, 0.0)
            total = took * count
        else:
            if source.next_seconds == inf:
                break
            now = max(now, source.next_seconds)
            continue

        if journal is not None:
            middle = context + decoding * (count - 1) // 2
            journal.append((decoding, middle, prefill, pairs, count, decoding + set_back))
        if decoding:
            itl.add(took, decoding * count)
        if warm_up_seconds <= now < seconds:
            busy += total
            made_tokens += decoding * count + len(completed)
            prompt_tokens += prefill
            area += total * (decoding + len(waiting) + len(completed) + (partial is not None))
            peak_used = max(peak_used, used)
        now += total
        last_start = now - took
        step += count
        context += decoding * count
        used += decoding * count * per_token
        ended: list[_Request] = []
        while finish_steps and finish_steps[0] < step:
            for request in finishing.pop(heappop(finish_steps)):
                done = step - request.start_step
                decoding -= 1
                context -= request.prompt + done + 1
                used -= request.held_blocks + done * per_token
                ended.append(request)
        for request in completed:
            if request.made:
                set_back -= 1
                itl.add(now - request.latest)
            else:
                request.first = now
                if warm_up_seconds <= request.arrival < seconds:
                    ttft.add(now - request.arrival)
                    late_first += now - request.arrival > ttft_seconds
            if request.output <= 1:
                used -= request.held_blocks
                request.finish_step = -1
                ended.append(request)
                continue
            decoding += 1
            context += request.prompt + 1
            request.start_step = step
            last = step + request.output - 2
            request.finish_step = last
            if last in finishing:
                finishing[last].append(request)
            else:
                finishing[last] = [request]
                heappush(finish_steps, last)
        for request in ended:
            answered += warm_up_seconds <= now < seconds
            if warm_up_seconds <= request.arrival < seconds:
                measured_open -= 1
                further = request.output + request.made - 1
                each = (now - request.first) / further if further else 0.0
                if further:
                    tpot.add(each)
                    late_each += each > tpot_seconds
                e2e.add(now - request.arrival)
                good += request.first - request.arrival <= ttft_seconds and each <= tpot_seconds
            source.finished(now)
        if len(order) > 4 * (decoding + 16):
            order = [request for request in order if request.finish_step >= step or request is partial]
    window = max(1e-9, min(now, seconds) - warm_up_seconds)
    finished = e2e.distribution()
    return Served(
        ttft_seconds=ttft.distribution(),
        tpot_seconds=tpot.distribution(),
        itl_seconds=itl.distribution(),
        e2e_seconds=finished,
        offered_per_second=offered / window,
        requests_per_second=answered / window,
        output_tokens_per_second=made_tokens / window,
        prompt_tokens_per_second=prompt_tokens / window,
        good_per_second=(good / finished.count if finished.count else 0.0) * answered / window,
        good_ratio=good / finished.count if finished.count else 0.0,
        in_flight_mean=area / window,
        busy_ratio=min(1.0, busy / window),
        kv_used_ratio=peak_used / blocks if blocks else 0.0,
        preempted_count=preempted,
        refused_count=refused,
        simulated_seconds=now,
        overloaded=overloaded,
    )
